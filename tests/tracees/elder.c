/* Young processes that never rest, and their parent, which has something to do beside them. */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { YOUNG = 6, ROUNDS = 200 };

int main(void)
{
	pid_t young[YOUNG];
	for (int i = 0; i < YOUNG; i++) {
		young[i] = fork();
		if (young[i] == 0)
			for (;;)
				close(open("young", O_RDONLY | O_CREAT, 0600));
	}
	for (int i = 0; i < ROUNDS; i++)
		close(open("elder", O_RDONLY | O_CREAT, 0600));
	for (int i = 0; i < YOUNG; i++) {
		kill(young[i], SIGKILL);
		waitpid(young[i], NULL, 0);
	}
	return 0;
}
