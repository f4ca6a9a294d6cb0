/* 64-bit code that makes 32-bit calls, with its data below 4 GiB and rubbish in the upper halves of its registers. */
#include "tracee.h"
#include <linux/sched.h>

#define HIGH 0xdead000000000000

static long int80(unsigned long number, unsigned long a, unsigned long b, unsigned long c)
{
	long result;
	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number | HIGH), "b"(a | HIGH), "c"(b | HIGH), "d"(c | HIGH), "S"(0), "D"(0)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

enum { FORK = 2, WRITE = 4, OPEN = 5, EXECVE = 11, GETPID = 20, CLONE = 120, WRITEV = 146 };

int main(int argc, char **argv)
{
	if (argc > 1)
		return 0;
	char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	unsigned long at = (unsigned long)low;
	if (int80(GETPID, 0, 0, 0) != getpid())
		_exit(__LINE__);
	strcpy(low, "file");
	int file = must(int80(OPEN, at, O_WRONLY | O_CREAT, 0600));
	must(int80(WRITE, file, at, 4));
	unsigned *words = (unsigned *)(low + 64);
	words[0] = at;
	words[1] = 3;
	words[2] = at;
	words[3] = 2;
	/* Also to standard output: what is written there is read from memory. */
	must(int80(WRITEV, 1, (unsigned long)words, 2));
	must(int80(WRITEV, file, (unsigned long)words, 2));
	pid_t child = int80(FORK, 0, 0, 0);
	if (child == 0)
		_exit(0);
	reap(child);
	child = int80(CLONE, CLONE_UNTRACED | CLONE_FS | SIGCHLD, 0, 0);
	if (child == 0) {
		must(open("seen", O_WRONLY | O_CREAT, 0600));
		_exit(0);
	}
	reap(child);
	/* And 64-bit ones in between. */
	must(write(file, "x", 1));
	strcpy(low + 128, argv[0]);
	strcpy(low + 1128, "again");
	words[0] = at + 128;
	words[1] = at + 1128;
	words[2] = 0;
	strcpy(low, "none");
	must(int80(EXECVE, at, (unsigned long)words, 0) == -ENOENT ? 0 : -1);
	must(int80(EXECVE, at + 128, (unsigned long)words, 0));
}
