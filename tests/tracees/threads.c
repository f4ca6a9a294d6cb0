/* 200 threads at once, each with a file of its own. */
#include "tracee.h"
#include <pthread.h>
#include <stdio.h>

enum { THREADS = 200 };

static pthread_barrier_t barrier;

static void *work(void *number)
{
	char name[16];
	snprintf(name, sizeof name, "t%ld", (long)number);
	pthread_barrier_wait(&barrier);
	int fd = must(open(name, O_WRONLY | O_CREAT, 0600));
	must(write(fd, name, strlen(name)));
	must(close(fd));
	return NULL;
}

int main(void)
{
	pthread_t threads[THREADS];
	must(-pthread_barrier_init(&barrier, NULL, THREADS));
	for (long i = 0; i < THREADS; i++)
		must(-pthread_create(&threads[i], NULL, work, (void *)i));
	for (int i = 0; i < THREADS; i++)
		must(-pthread_join(threads[i], NULL));
	return 0;
}
