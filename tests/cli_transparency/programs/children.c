/* What a parent sees of its children: SIGCHLD with all it says, waitid(2), stops, orphaned groups, deaths of parents. */
#include "program.h"

static const char *kind(int code)
{
	static const char *names[] = {"?", "exited", "killed", "dumped", "trapped", "stopped", "continued"};
	return names[code >= 0 && code < 7 ? code : 0];
}

static pid_t expected;

static void wait_for(const char *what, idtype_t type, id_t id, int flags)
{
	siginfo_t info = {0};
	long result = waitid(type, id, &info, flags);
	if (result < 0 || info.si_pid == 0)
		tell(what, result);
	else
		say("%s: %s %d, %s, uid %d\n", what, kind(info.si_code), info.si_status,
		    info.si_pid == expected ? "as expected" : "another", info.si_uid == getuid());
}

/* The SIGCHLD that is blocked and waits. */
static void next_signal(void)
{
	sigset_t set;
	siginfo_t info;
	struct timespec time = {20, 0};
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	long result = sigtimedwait(&set, &info, &time);
	if (result < 0)
		tell("SIGCHLD", result);
	else
		say("SIGCHLD: %s %d, %s\n", kind(info.si_code), info.si_status, info.si_pid == expected ? "as expected" : "another");
}

static void end_with(int how)
{
	struct rlimit none = {0, 0};
	setrlimit(RLIMIT_CORE, &none);
	sigset_t empty;
	sigemptyset(&empty);
	sigprocmask(SIG_SETMASK, &empty, NULL);
	if (how < 0)
		raise(-how);
	_exit(how);
}

static pid_t paused(void)
{
	int ready[2];
	char byte;
	must(pipe(ready));
	pid_t child = must(fork());
	if (child == 0) {
		sigset_t empty;
		sigemptyset(&empty);
		sigprocmask(SIG_SETMASK, &empty, NULL);
		must(write(ready[1], "x", 1));
		for (;;)
			pause();
	}
	must(read(ready[0], &byte, 1));
	close(ready[0]);
	close(ready[1]);
	return child;
}

static void *sleeper(void *unused)
{
	for (;;)
		pause();
	return NULL;
}

/* A child with many threads, some of them in covered calls all the time. */
static void *opener(void *unused)
{
	for (;;)
		close(open("/dev/null", O_RDONLY));
	return NULL;
}

static pid_t many_threads(void)
{
	int ready[2];
	char byte;
	must(pipe(ready));
	pid_t child = must(fork());
	if (child == 0) {
		pthread_t thread;
		sigset_t empty;
		sigemptyset(&empty);
		sigprocmask(SIG_SETMASK, &empty, NULL);
		for (int i = 0; i < 40; i++)
			must(-pthread_create(&thread, NULL, i % 8 ? sleeper : opener, NULL));
		must(write(ready[1], "x", 1));
		sleeper(NULL);
	}
	must(read(ready[0], &byte, 1));
	close(ready[0]);
	close(ready[1]);
	return child;
}

int main(void)
{
	sigset_t child_signal;
	int status;
	sigemptyset(&child_signal);
	sigaddset(&child_signal, SIGCHLD);
	must(sigprocmask(SIG_BLOCK, &child_signal, NULL));
	/* Ends. */
	int ends[] = {0, 7, 255, -SIGTERM, -SIGKILL, -SIGSEGV, -SIGABRT, -SIGTRAP, -(SIGRTMIN + 2)};
	for (unsigned i = 0; i < sizeof ends / sizeof *ends; i++) {
		expected = must(fork());
		if (expected == 0)
			end_with(ends[i]);
		next_signal();
		wait_for("not reaped", P_PID, expected, WEXITED | WNOWAIT);
		wait_for("reaped", P_PID, expected, WEXITED);
		wait_for("gone", P_PID, expected, WEXITED);
	}
	/* Stops and goes on, by each signal that stops; from outside, by many threads. */
	for (int threads = 0; threads < 2; threads++) {
		expected = threads ? many_threads() : paused();
		int stops[] = {SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
		for (int i = 0; i < 4; i++) {
			must(kill(expected, stops[i]));
			next_signal();
			wait_for("nothing more", P_PID, expected, WEXITED | WNOHANG);
			wait_for("stopped", P_PID, expected, WSTOPPED | WNOWAIT);
			wait_for("stopped", P_ALL, 0, WSTOPPED);
			wait_for("once", P_PID, expected, WSTOPPED | WNOHANG);
			/* Signals wait while it is stopped. */
			must(kill(expected, SIGCONT));
			next_signal();
			wait_for("continued", P_PID, expected, WCONTINUED);
		}
		/* Stopped, and killed while it is. */
		must(kill(expected, SIGSTOP));
		must(waitpid(expected, &status, WUNTRACED));
		next_signal();
		must(kill(expected, SIGTERM));
		wait_for("stays stopped", P_PID, expected, WEXITED | WNOHANG);
		must(kill(expected, SIGKILL));
		wait_for("killed", P_PID, expected, WEXITED);
		next_signal();
	}
	/* A group's stop, and the stop and start of a process that stops itself. */
	int out[2];
	char byte;
	must(pipe(out));
	expected = must(fork());
	if (expected == 0) {
		setpgid(0, 0);
		kill(0, SIGSTOP);
		/* A continuation is forgotten with the end: not before it was heard of. */
		must(read(out[0], &byte, 1));
		_exit(3);
	}
	wait_for("stopped itself", P_PID, expected, WSTOPPED);
	must(kill(-expected, SIGCONT));
	wait_for("goes on", P_PID, expected, WCONTINUED);
	must(write(out[1], "x", 1));
	wait_for("ends", P_PID, expected, WEXITED);

	/* An orphaned group that is stopped: SIGHUP and SIGCONT (setpgid(2)). */
	must(pipe(out));
	pid_t middle = must(fork());
	if (middle == 0) {
		must(setsid());
		pid_t orphan = must(fork());
		if (orphan == 0) {
			setpgid(0, 0);
			sigset_t wanted;
			sigemptyset(&wanted);
			sigaddset(&wanted, SIGHUP);
			sigaddset(&wanted, SIGCONT);
			sigprocmask(SIG_BLOCK, &wanted, NULL);
			raise(SIGSTOP);
			siginfo_t info;
			for (int i = 0; i < 2; i++)
				say("orphan: signal %d\n", sigwaitinfo(&wanted, &info));
			_exit(0);
		}
		must(waitpid(orphan, &status, WUNTRACED));
		_exit(0);
	}
	must(waitpid(middle, &status, 0));
	close(out[1]);
	must(read(out[0], &byte, 1));

	/* A child that is told when its parent ends. */
	must(pipe(out));
	middle = must(fork());
	if (middle == 0) {
		int ready[2];
		must(pipe(ready));
		if (must(fork()) == 0) {
			sigset_t wanted;
			siginfo_t info;
			sigemptyset(&wanted);
			sigaddset(&wanted, SIGUSR1);
			sigprocmask(SIG_BLOCK, &wanted, NULL);
			must(prctl(PR_SET_PDEATHSIG, SIGUSR1));
			must(write(ready[1], "x", 1));
			say("parent's end: signal %d\n", sigwaitinfo(&wanted, &info));
			_exit(0);
		}
		must(read(ready[0], &byte, 1));
		_exit(0);
	}
	must(waitpid(middle, &status, 0));
	close(out[1]);
	must(read(out[0], &byte, 1));

	/* A subreaper gets the orphan. */
	must(prctl(PR_SET_CHILD_SUBREAPER, 1));
	int in[2];
	must(pipe(out));
	must(pipe(in));
	middle = must(fork());
	if (middle == 0) {
		pid_t grandchild = must(fork());
		if (grandchild == 0) {
			must(read(in[0], &byte, 1));
			_exit(getppid() == middle ? 1 : 9);
		}
		must(write(out[1], &grandchild, sizeof grandchild));
		_exit(0);
	}
	must(read(out[0], &expected, sizeof expected));
	must(waitpid(middle, &status, 0));
	must(write(in[1], "x", 1));
	wait_for("orphan", P_PID, expected, WEXITED);

	/* Children that nobody waits for leave nothing behind. */
	struct sigaction ignore = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};
	must(sigaction(SIGCHLD, &ignore, NULL));
	if (must(fork()) == 0)
		_exit(5);
	tell("wait with SA_NOCLDWAIT", waitpid(-1, &status, 0));
	ignore = (struct sigaction){.sa_handler = SIG_IGN};
	must(sigaction(SIGCHLD, &ignore, NULL));
	if (must(fork()) == 0)
		_exit(5);
	tell("wait with SIGCHLD ignored", waitpid(-1, &status, 0));
	/* No news of stops with SA_NOCLDSTOP. */
	ignore = (struct sigaction){.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDSTOP};
	must(sigaction(SIGCHLD, &ignore, NULL));
	while (sigtimedwait(&child_signal, NULL, &(struct timespec){0, 0}) > 0)
		;
	expected = paused();
	must(kill(expected, SIGSTOP));
	wait_for("stopped", P_PID, expected, WSTOPPED);
	tell("SIGCHLD", sigtimedwait(&child_signal, NULL, &(struct timespec){0, 0}));
	must(kill(expected, SIGKILL));
	next_signal();
	wait_for("killed", P_PID, expected, WEXITED);
	say("done\n");
	return 0;
}
