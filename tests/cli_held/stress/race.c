/* Threads that open, duplicate over each other, write and close: every thread's bytes are its own file's. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { THREADS = 8, ROUNDS = 150 };

static pthread_barrier_t barrier;

static void *work(void *argument)
{
	long number = (long)argument;
	char name[16];
	snprintf(name, sizeof name, "t%ld", number);
	/* Numbers that are this thread's alone, beside ones that all threads take and give back. */
	int own = 100 + (int)number * 2;
	pthread_barrier_wait(&barrier);
	for (int round = 0; round < ROUNDS; round++) {
		int fd = open(name, O_WRONLY | O_CREAT | O_APPEND, 0600);
		if (fd < 0 || dup2(fd, own) < 0)
			_exit(1);
		if (round % 3)
			close(fd);
		if (write(own, "own", 3) != 3)
			_exit(2);
		int copy = dup(own);
		if (copy < 0 || write(copy, "copy!", 5) != 5)
			_exit(3);
		if (round % 3 == 0)
			close(fd);
		close(copy);
		if (round % 5 == 0)
			close(own);
		else if (round % 5 == 1)
			syscall(SYS_close_range, own, own + 1, 0);
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], NULL, work, (void *)i);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
