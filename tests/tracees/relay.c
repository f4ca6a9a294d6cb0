/* Works, in itself and in a child, and executes the program that its first argument names, with the rest. */
#include "tracee.h"

int main(int argc, char **argv)
{
	char name[] = "file0";
	name[4] += argc;
	/* Kept open, and written to by the next as well. */
	int file = must(open(name, O_WRONLY | O_CREAT | O_APPEND, 0600));
	for (int fd = 3; fd <= file; fd++)
		must(write(fd, name, 5));
	must(mkdir(name + 4, 0700));
	must(chdir(name + 4));
	must(chdir(".."));
	if (argc == 1)
		return 0;
	pid_t child = must(vfork());
	if (child == 0) {
		execve("none", argv, NULL);
		_exit(0);
	}
	reap(child);
	must(execve(argv[1], argv + 1, NULL));
}
