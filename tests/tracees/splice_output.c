/* Output that comes into the pipe by vmsplice(2) and tee(2). */
#include "tracee.h"

int main(void)
{
	struct iovec parts[] = { { "vm", 2 }, { "splice\n", 7 } };
	must(syscall(SYS_vmsplice, 1, parts, 2, 0));
	int ends[2];
	must(pipe(ends));
	must(write(ends[1], "tee\n", 4));
	must(syscall(SYS_tee, ends[0], 1, 4, 0));
	return 0;
}
