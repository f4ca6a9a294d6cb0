/* 2,500 short processes, some at once, some with vfork, each with a code of its own. */
#include "tracee.h"

enum { PROCESSES = 2500, AT_ONCE = 25 };

int main(void)
{
	for (int i = 0; i < PROCESSES; i += AT_ONCE) {
		for (int j = 0; j < AT_ONCE; j++) {
			pid_t child = must(j % 2 ? vfork() : fork());
			if (child == 0)
				_exit((i + j) % 251);
		}
		for (int j = 0; j < AT_ONCE; j++)
			must(wait(NULL));
	}
	return 0;
}
