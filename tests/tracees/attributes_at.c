/* The same by calls that old kernels lack: those that this one lacks fail with ENOSYS. */
#include "tracee.h"

#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463
#endif
#ifndef SYS_removexattrat
#define SYS_removexattrat 466
#endif

int main(void)
{
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	syscall(SYS_fchmodat2, AT_FDCWD, "file", 0640, AT_SYMLINK_NOFOLLOW);
	syscall(SYS_fchmodat2, file, "", 0600, AT_EMPTY_PATH);
	struct {
		uint64_t value;
		uint32_t size, flags;
	} args = { (uintptr_t)"four", 4, 0 };
	syscall(SYS_setxattrat, AT_FDCWD, "file", 0, "user.a", &args, sizeof args);
	syscall(SYS_removexattrat, AT_FDCWD, "file", 0, "user.a");
	return 0;
}
