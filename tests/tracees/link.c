/* Hard and symbolic links. */
#include "tracee.h"

int main(void)
{
	int file = must(open("file", O_WRONLY | O_CREAT, 0600));
	must(syscall(SYS_link, "file", "hard"));
	must(syscall(SYS_linkat, AT_FDCWD, "file", AT_FDCWD, "hard2", 0));
	fails(syscall(SYS_linkat, AT_FDCWD, "file", AT_FDCWD, "hard", 0), EEXIST);
	must(syscall(SYS_symlink, "../no/where", "soft"));
	must(syscall(SYS_symlinkat, "file", AT_FDCWD, "soft2"));
	must(close(file));
	return 0;
}
