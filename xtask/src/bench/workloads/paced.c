/* Opens and closes a file so many times a second, evenly, a little every millisecond; says when it begins, ends with its input. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	int each = argc > 1 ? atoi(argv[1]) / 1000 : 1;
	struct pollfd input = { .fd = 0, .events = POLLIN };
	struct timespec next;
	puts("ready");
	fflush(stdout);
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (poll(&input, 1, 0) == 0) {
		for (int i = 0; i < each; i++) {
			int fd = open("file0", O_RDONLY);
			if (fd < 0)
				return 1;
			close(fd);
		}
		next.tv_nsec += 1000000;
		if (next.tv_nsec >= 1000000000) {
			next.tv_nsec -= 1000000000;
			next.tv_sec++;
		}
		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
	}
	return 0;
}
