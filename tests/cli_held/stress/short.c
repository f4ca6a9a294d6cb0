/* 5,000 processes that open a file and are gone, as many at a time as there are processors to fork them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PROCESSES = 5000, AT_ONCE = 2 };

int main(void)
{
	for (int parent = 0; parent < AT_ONCE; parent++) {
		if (fork() != 0)
			continue;
		for (int i = parent; i < PROCESSES; i += AT_ONCE) {
			if (vfork() == 0) {
				char name[16];
				snprintf(name, sizeof(name), "f%d", i);
				open(name, O_WRONLY | O_CREAT, 0600);
				_exit(7);
			}
			wait(NULL);
		}
		_exit(0);
	}
	for (int parent = 0; parent < AT_ONCE; parent++)
		wait(NULL);
	return 0;
}
