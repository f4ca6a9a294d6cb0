/* Opens files in every way there is. */
#include "tracee.h"

int main(void)
{
	must(syscall(SYS_creat, "new", 0640));
	must(syscall(SYS_open, "new", O_RDONLY));
	fails(syscall(SYS_open, "none", O_RDWR), ENOENT);
	must(syscall(SYS_open, "./sub//../new", O_WRONLY | O_CREAT, 0600));
	int sub = must(syscall(SYS_openat, AT_FDCWD, "sub", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	must(syscall(SYS_openat, sub, "../new", O_WRONLY | O_APPEND));
	must(syscall(SYS_openat, sub, "fresh", O_RDWR | O_CREAT | O_EXCL, 0644));
	fails(syscall(SYS_openat, sub, "fresh", O_RDWR | O_CREAT | O_EXCL, 0644), EEXIST);
	struct open_how how = { .flags = O_RDWR | O_CREAT, .mode = 0600 };
	must(syscall(SYS_openat2, sub, "how", &how, sizeof how));
	fails(syscall(SYS_openat, AT_FDCWD, NULL, O_RDONLY), EFAULT);
	fails(syscall(SYS_openat, 77, "x", O_RDONLY), EBADF);
	/* Behind a link, `..` is the parent of where it leads. */
	must(syscall(SYS_openat, AT_FDCWD, "link/../mark", O_RDONLY));
	return 0;
}
