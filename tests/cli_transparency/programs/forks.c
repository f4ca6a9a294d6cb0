/* Starting processes in every way, and 5,000 of them; the argument is how many. */
#include "program.h"
#include <spawn.h>
#include <linux/sched.h>

extern char **environ;

static int reap(pid_t pid)
{
	int status;
	must(waitpid(pid, &status, 0));
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static int add(void *to)
{
	(*(volatile int *)to)++;
	return 6;
}

int main(int argc, char **argv)
{
	volatile int shared = 0;
	/* The parent stands still until the child execs or ends, and sees what it wrote. */
	pid_t child = vfork();
	if (child == 0) {
		shared = 1;
		_exit(4);
	}
	say("vfork: shared %d, ", shared);
	say("ended with %d\n", reap(child));
	child = vfork();
	if (child == 0) {
		shared = 2;
		execl("/bin/sh", "sh", "-c", "exit 5", NULL);
		_exit(1);
	}
	say("vfork and exec: shared %d, ", shared);
	say("ended with %d\n", reap(child));
	child = vfork();
	if (child == 0) {
		shared = 3;
		kill(getpid(), SIGKILL);
	}
	say("vfork and killed: shared %d, ", shared);
	say("ended with %d\n", reap(child));
	static char stack[65536];
	child = must(clone(add, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, (void *)&shared));
	say("clone: shared %d, ", shared);
	say("ended with %d\n", reap(child));
	child = must(clone(add, stack + sizeof stack, CLONE_VM | CLONE_UNTRACED | SIGCHLD, (void *)&shared));
	say("untraced: ended with %d\n", reap(child));
	/* Its end is told by another signal, or by none: only __WALL finds it. */
	child = must(clone(add, stack + sizeof stack, CLONE_VM | SIGURG, (void *)&shared));
	int status;
	tell("wait without __WALL", waitpid(child, &status, 0));
	must(waitpid(child, &status, __WALL));
	say("with it: %d\n", WEXITSTATUS(status));
	struct clone_args args = {.flags = CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID, .exit_signal = SIGCHLD};
	pid_t told = 0;
	args.parent_tid = args.child_tid = (uintptr_t)&told;
	child = must(syscall(SYS_clone3, &args, sizeof args));
	if (child == 0)
		_exit(8);
	say("clone3: told %d, ended with %d\n", told == child, reap(child));
	char *words[] = {"sh", "-c", "exit 9", NULL};
	must(-posix_spawnp(&child, "sh", NULL, NULL, words, environ));
	say("posix_spawn: ended with %d\n", reap(child));
	char *missing[] = {"missing", NULL};
	say("posix_spawn: error %s\n", strerrorname_np(posix_spawn(&child, "/missing", NULL, NULL, missing, environ)));
	say("system: %d\n", WEXITSTATUS(system("exit 10")));
	FILE *pipe = popen("echo words", "r");
	char line[64];
	say("popen: %s", fgets(line, sizeof line, pipe));
	say("ended with %d\n", pclose(pipe));

	long sum = 0, many = argc > 1 ? atoi(argv[1]) : 0;
	for (long started = 0, ended = 0; ended < many;) {
		if (started < many && started - ended < 20) {
			if (must(fork()) == 0)
				_exit(started % 200);
			started++;
			continue;
		}
		must(wait(&status));
		sum += WEXITSTATUS(status);
		ended++;
	}
	say("%ld processes, sum %ld\n", many, sum);
	return 0;
}
