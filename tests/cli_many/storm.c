/* Processes that open and close a file as fast as they can: how many of them, and for how many seconds. Prints how often they did it. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	if (argc < 3)
		return 2;
	int processes = atoi(argv[1]);
	double end = now() + atof(argv[2]);
	long *done = mmap(NULL, processes * sizeof *done, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (done == MAP_FAILED)
		return 1;
	for (int i = 0; i < processes; i++) {
		if (fork())
			continue;
		while (now() < end)
			for (int round = 0; round < 64; round++) {
				int fd = open("storm-file", O_RDONLY);
				if (fd < 0)
					_exit(1);
				close(fd);
				done[i]++;
			}
		_exit(0);
	}
	int status;
	while (wait(&status) > 0)
		if (status)
			return 1;
	long sum = 0;
	for (int i = 0; i < processes; i++)
		sum += done[i];
	printf("%ld\n", sum);
	return 0;
}
