/* 2,000 processes with an inherited descriptor; some are killed by others at any moment. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 2000, AT_ONCE = 40 };

int main(void)
{
	int fd = open("all", O_WRONLY | O_CREAT | O_APPEND, 0600);
	pid_t alive[AT_ONCE] = {0};
	for (int i = 0; i < PROCESSES; i++) {
		pid_t *slot = &alive[i % AT_ONCE];
		if (*slot) {
			/* Every fifth did not end by itself. */
			if ((i - AT_ONCE) % 5 == 4)
				kill(*slot, SIGKILL);
			if (waitpid(*slot, NULL, 0) != *slot)
				return 1;
		}
		*slot = fork();
		if (*slot < 0)
			return 2;
		if (*slot == 0) {
			if (i % 5 == 4)
				for (;;) {
					int own = open("own", O_WRONLY | O_CREAT, 0600);
					write(own, "x", 1);
					close(own);
				}
			if (i % 5 == 3)
				dup2(fd, 50);
			_exit(write(i % 5 == 3 ? 50 : fd, "1234567", 7) != 7);
		}
	}
	for (int i = 0; i < AT_ONCE; i++) {
		if ((PROCESSES - AT_ONCE + i) % 5 == 4)
			kill(alive[i], SIGKILL);
		waitpid(alive[i], NULL, 0);
	}
	return write(fd, "end", 3) != 3;
}
