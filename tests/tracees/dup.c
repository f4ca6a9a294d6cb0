/* One description under many descriptors: it is closed with the last of them, with the bytes of all. */
#include "tracee.h"

int main(void)
{
	int file = must(open("file", O_WRONLY | O_CREAT, 0600));
	int other = must(open("other", O_WRONLY | O_CREAT, 0600));
	must(write(file, "1", 1));
	int a = must(syscall(SYS_dup, file));
	must(write(a, "22", 2));
	/* Closes `other` on the way. */
	must(syscall(SYS_dup2, a, other));
	must(close(file));
	must(write(other, "333", 3));
	must(close(a));
	must(syscall(SYS_dup3, other, 20, O_CLOEXEC));
	must(close(other));
	must(write(20, "4444", 4));
	int b = must(syscall(SYS_fcntl, 20, F_DUPFD, 30));
	int c = must(syscall(SYS_fcntl, b, F_DUPFD_CLOEXEC, 30));
	must(dup2(c, c));
	must(close(20));
	must(close(b));
	must(write(c, "55555", 5));
	must(close(c));
	fails(dup2(c, 40), EBADF);
	must(open("last", O_RDONLY | O_CREAT, 0600));
	return 0;
}
