/* Stops when told to and goes on when told to; its parent sees both, as without a tracer. */
#include "tracee.h"

int main(void)
{
	int status, seen[2];
	must(pipe(seen));
	pid_t child = must(fork());
	if (child == 0) {
		raise(SIGSTOP);
		must(open("continued", O_WRONLY | O_CREAT, 0600));
		/* A second stop would hide that it went on from a parent that is slow. */
		must(read(seen[0], &status, 1));
		raise(SIGSTOP);
		pause();
	}
	must(waitpid(child, &status, WUNTRACED));
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
		_exit(101);
	must(kill(child, SIGCONT));
	must(waitpid(child, &status, WCONTINUED));
	if (!WIFCONTINUED(status))
		_exit(102);
	must(write(seen[1], "", 1));
	must(waitpid(child, &status, WUNTRACED));
	if (!WIFSTOPPED(status) || WSTOPSIG(status) != SIGSTOP)
		_exit(103);
	/* A stopped process can be killed. */
	must(kill(child, SIGKILL));
	must(waitpid(child, &status, 0));
	if (!WIFSIGNALED(status))
		_exit(104);
	/* To be stopped from outside: the test knows by this file that it may. */
	must(open("ready", O_WRONLY | O_CREAT, 0600));
	for (;;)
		pause();
}
