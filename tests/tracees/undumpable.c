/* Closes its memory to others, as programs that hold keys do, and opens it again. */
#include "tracee.h"

int main(void)
{
	must(open("before", O_WRONLY | O_CREAT, 0600));
	must(syscall(SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0));
	must(open("hidden", O_WRONLY | O_CREAT, 0600));
	must(write(3, "seen", 4));
	must(syscall(SYS_prctl, PR_SET_DUMPABLE, 1, 0, 0, 0));
	must(open("after", O_WRONLY | O_CREAT, 0600));
	return 0;
}
