/* Two threads: one opens and removes by a name that the other keeps changing, until told to stop. Bytes written tell what was opened. */
#include "tracee.h"
#include <pthread.h>
#include <stdatomic.h>

static char name[] = "file_0";
static atomic_int done;

static void *change(void *unused)
{
	volatile char *digit = name + sizeof name - 2;
	while (!atomic_load(&done))
		*digit ^= 1;
	return unused;
}

int main(void)
{
	struct stat one, opened;
	must(close(must(creat("file_0", 0600))));
	must(close(must(creat("file_1", 0600))));
	must(stat("file_1", &one));
	pthread_t thread;
	must(-pthread_create(&thread, NULL, change, NULL));
	while (access("stop", F_OK) < 0) {
		int file = must(open(name, O_WRONLY));
		must(fstat(file, &opened));
		must(write(file, "xx", opened.st_ino == one.st_ino ? 2 : 1));
		must(close(file));
		fails(rmdir(name), ENOTDIR);
	}
	atomic_store(&done, 1);
	must(-pthread_join(thread, NULL));
	return 0;
}
