/* Calls that are interrupted: what goes on by itself, what ends with EINTR, and how much of a time was left. */
#include "program.h"
#include <linux/futex.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>

static atomic_int alarms;

static void count(int signal)
{
	alarms++;
}

static void on_alarm(int flags)
{
	struct sigaction action = {.sa_handler = count, .sa_flags = flags};
	must(sigaction(SIGALRM, &action, NULL));
}

static void alarm_in(long first, long then)
{
	struct itimerval timer = {.it_value.tv_usec = first, .it_interval.tv_usec = then};
	must(setitimer(ITIMER_REAL, &timer, NULL));
}

static int ends[2];

/* Writes once the alarm was there. */
static void *writer(void *unused)
{
	sigset_t all;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, NULL);
	while (!alarms)
		sched_yield();
	must(write(ends[1], "x", 1));
	return NULL;
}

static long read_it(void)
{
	char byte;
	return read(ends[0], &byte, 1);
}

static long sleep_it(void)
{
	struct timespec time = {0, 100000000}, left = {9, 9};
	long result = clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &left);
	if (result == EINTR)
		say("time left: %s\n", left.tv_sec == 0 && left.tv_nsec > 0 && left.tv_nsec < 100000000 ? "some" : "odd");
	errno = result;
	return result ? -1 : 0;
}

static long poll_it(void)
{
	struct pollfd fd = {.fd = ends[0], .events = POLLIN};
	return poll(&fd, 1, 150);
}

static long select_it(void)
{
	struct timeval time = {0, 150000};
	return select(0, NULL, NULL, NULL, &time);
}

static long epoll_it(void)
{
	int fd = must(epoll_create1(0));
	struct epoll_event event;
	long result = epoll_wait(fd, &event, 1, 150);
	int error = errno;
	close(fd);
	errno = error;
	return result;
}

static long futex_it(void)
{
	int word = 0;
	struct timespec time = {0, 150000000};
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &time, NULL, 0);
}

static long open_fifo(void)
{
	unlink("fifo");
	must(mkfifo("fifo", 0600));
	return open("fifo", O_RDONLY);
}

static const struct {
	const char *name;
	long (*call)(void);
} calls[] = {{"nanosleep", sleep_it}, {"poll", poll_it}, {"select", select_it}, {"epoll_wait", epoll_it}, {"futex", futex_it}};


/* The call, while this process is stopped from outside and goes on. */
static void stopped_in(const char *name, long (*call)(void))
{
	alarm_in(0, 0);
	int ready[2];
	must(pipe(ready));
	pid_t child = must(fork());
	if (child == 0) {
		must(write(ready[1], "x", 1));
		tell(name, call());
		_exit(0);
	}
	char byte;
	int status;
	must(read(ready[0], &byte, 1));
	/* Until it sleeps. */
	char path[64], state = 0;
	snprintf(path, sizeof path, "/proc/%d/stat", child);
	while (state != 'S') {
		FILE *file = fopen(path, "r");
		if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
			_exit(1);
		fclose(file);
	}
	must(kill(child, SIGSTOP));
	must(waitpid(child, &status, WUNTRACED));
	say("stopped: %d\n", WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
	must(kill(child, SIGCONT));
	must(waitpid(child, &status, 0));
	close(ready[0]);
	close(ready[1]);
}

int main(void)
{
	must(pipe(ends));
	pthread_t thread;
	/* read(2) of a pipe, which a recorder watches: goes on with SA_RESTART, else EINTR. */
	/* They come again and again: the first may be early, on a busy machine. */
	on_alarm(SA_RESTART);
	must(pthread_create(&thread, NULL, writer, NULL));
	alarm_in(20000, 20000);
	tell("read with SA_RESTART", read_it());
	pthread_join(thread, NULL);
	alarm_in(0, 0);
	on_alarm(0);
	alarm_in(20000, 20000);
	tell("read without", read_it());
	alarm_in(20000, 20000);
	tell("open of a fifo without", open_fifo());
	for (unsigned i = 0; i < sizeof calls / sizeof *calls; i++) {
		on_alarm(SA_RESTART);
		alarm_in(20000, 20000);
		say("SA_RESTART ");
		tell(calls[i].name, calls[i].call());
		on_alarm(0);
		alarm_in(20000, 20000);
		tell(calls[i].name, calls[i].call());
		stopped_in(calls[i].name, calls[i].call);
	}

	/* A storm of alarms over covered calls: none fails. */
	on_alarm(SA_RESTART);
	alarms = 0;
	alarm_in(500, 500);
	int fds[2];
	must(pipe(fds));
	for (int i = 0; i < 300 || alarms < 50; i++) {
		char buffer[64];
		int fd = must(open("/dev/zero", O_RDWR));
		if (must(read(fd, buffer, sizeof buffer)) != sizeof buffer)
			return 1;
		must(write(fds[1], buffer, sizeof buffer));
		must(read(fds[0], buffer, sizeof buffer));
		must(rename("/dev/null/x", "y") == -1 && errno == ENOTDIR ? 0 : -1);
		must(close(fd));
	}
	alarm_in(0, 0);
	say("done\n");
	return 0;
}
