/* Works evenly until its input ends: processes that start, write, rename, delete and end. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	struct pollfd input = { .fd = 0, .events = POLLIN };
	puts("ready");
	fflush(stdout);
	for (int round = 0; poll(&input, 1, 2) == 0; round++) {
		if (!fork()) {
			char from[32], to[32];
			snprintf(from, sizeof from, "from%d", round);
			snprintf(to, sizeof to, "to%d", round);
			int fd = open(from, O_WRONLY | O_CREAT, 0600);
			if (fd < 0 || write(fd, from, sizeof from) < 0 || close(fd) || rename(from, to) || unlink(to))
				_exit(1);
			_exit(0);
		}
		wait(NULL);
	}
	return 0;
}
