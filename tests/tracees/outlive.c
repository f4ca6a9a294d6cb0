/* Ends before its child, which works on once somebody opens a FIFO. */
#include "tracee.h"

int main(void)
{
	int ends[2];
	must(pipe(ends));
	pid_t child = must(fork());
	if (child == 0) {
		must(setsid());
		must(write(ends[1], "", 1));
		must(open("go", O_RDONLY));
		must(open("late", O_WRONLY | O_CREAT, 0600));
		return 0;
	}
	must(read(ends[0], &child, 1));
	return 5;
}
