/* Files without a name that get one, and one that never does. */
#include "tracee.h"

int main(void)
{
	int named = must(open("d", O_TMPFILE | O_WRONLY, 0600));
	must(write(named, "named", 5));
	must(syscall(SYS_linkat, AT_FDCWD, "/proc/self/fd/3", AT_FDCWD, "by_proc", AT_SYMLINK_FOLLOW));
	must(write(named, "more", 4));
	must(ftruncate(named, 7));
	must(linkat(AT_FDCWD, "by_proc", AT_FDCWD, "again", 0));
	int empty = must(open("d", O_TMPFILE | O_RDWR, 0600));
	/* Needs a right on older kernels. */
	if (syscall(SYS_linkat, empty, "", AT_FDCWD, "d/by_empty_path", AT_EMPTY_PATH) < 0)
		must(linkat(AT_FDCWD, "/proc/self/fd/4", AT_FDCWD, "d/by_empty_path",
			    AT_SYMLINK_FOLLOW));
	int unnamed = must(open("d", O_TMPFILE | O_WRONLY, 0600));
	must(write(unnamed, "x", 1));
	return 0;
}
