/* Starts processes for ever, to be ended from outside. */
#include "tracee.h"

int main(void)
{
	must(open("ready", O_WRONLY | O_CREAT, 0600));
	for (;;) {
		pid_t child = fork();
		if (child == 0) {
			setsid();
			if (fork() == 0)
				for (;;)
					pause();
			return 0;
		}
		if (child > 0)
			waitpid(child, NULL, 0);
	}
}
