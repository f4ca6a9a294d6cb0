/* As many processes as its argument says, each with files of its own; says when all are there, and ends with its input. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int count = argc > 1 ? atoi(argv[1]) : 1, input[2], started[2];
	if (pipe(input) || pipe(started))
		return 1;
	for (int i = 0; i < count; i++) {
		if (fork())
			continue;
		close(input[1]);
		if (open("/dev/null", O_RDONLY) < 0 || open("file", O_RDONLY) < 0)
			return 1;
		dup2(input[0], 0);
		dup2(started[1], 1);
		execl("/bin/sh", "sh", "-c", "echo; read line", NULL);
		_exit(1);
	}
	char byte;
	for (int i = 0; i < count; i++)
		if (read(started[0], &byte, 1) != 1)
			return 1;
	puts("ready");
	fflush(stdout);
	while (read(0, &byte, 1) > 0)
		;
	close(input[0]);
	close(input[1]);
	while (wait(NULL) > 0)
		;
	return 0;
}
