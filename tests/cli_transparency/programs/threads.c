/* Threads: 200 of them in covered calls, an end while all of them run, and an exec by one that is not the leader. */
#include "program.h"

enum { THREADS = 200 };
static pthread_barrier_t start;
static atomic_int opened;
static _Thread_local int mine;

static void *work(void *number)
{
	char path[32];
	pthread_barrier_wait(&start);
	snprintf(path, sizeof path, "file-%ld", (long)number);
	for (int i = 0; i < 5; i++) {
		int fd = must(open(path, O_RDWR | O_CREAT | O_APPEND, 0600));
		must(write(fd, path, strlen(path)));
		must(close(fd));
		mine++;
		opened++;
	}
	return (void *)(long)mine;
}

static void *forever(void *unused)
{
	pthread_barrier_wait(&start);
	while (1)
		close(open("/dev/null", O_RDONLY));
	return NULL;
}

static void *executes(void *program)
{
	pthread_barrier_wait(&start);
	char pid[16];
	snprintf(pid, sizeof pid, "%d", getpid());
	execl(program, "threads", "after", pid, NULL);
	return NULL;
}

static int after(const char *pid)
{
	sigset_t mask;
	pthread_sigmask(SIG_BLOCK, NULL, &mask);
	say("same process %d, leader %d, USR2 blocked %d\n", getpid() == atoi(pid), gettid() == getpid(),
	    sigismember(&mask, SIGUSR2));
	must(pthread_barrier_init(&start, NULL, 9));
	pthread_t thread;
	for (int i = 0; i < 8; i++)
		must(-pthread_create(&thread, NULL, forever, NULL));
	pthread_barrier_wait(&start);
	/* exit_group while the others are at it. */
	exit(21);
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return after(argv[2]);
	static pthread_t threads[THREADS];
	long sum = 0;
	must(pthread_barrier_init(&start, NULL, THREADS));
	for (long i = 0; i < THREADS; i++)
		must(-pthread_create(&threads[i], NULL, work, (void *)i));
	for (long i = 0; i < THREADS; i++) {
		void *result;
		must(-pthread_join(threads[i], &result));
		sum += (long)result;
	}
	say("opened %d, sum %ld\n", opened, sum);
	sigset_t usr2;
	sigemptyset(&usr2);
	sigaddset(&usr2, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &usr2, NULL);
	must(pthread_barrier_init(&start, NULL, 10));
	for (int i = 0; i < 8; i++)
		must(-pthread_create(&threads[i], NULL, forever, NULL));
	must(-pthread_create(&threads[8], NULL, executes, argv[0]));
	pthread_barrier_wait(&start);
	/* The leader ends; the others go on. */
	pthread_exit(NULL);
}
