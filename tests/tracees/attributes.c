/* Changes what a file is said to be: length, mode, owner, times, extended attributes. */
#include "tracee.h"
#include <sys/xattr.h>


int main(void)
{
	unsigned uid = getuid(), gid = getgid();
	int file = must(open("file", O_RDWR | O_CREAT, 0600));
	must(syscall(SYS_truncate, "file", 100));
	must(syscall(SYS_ftruncate, file, 50));
	must(syscall(SYS_fallocate, file, 0, LONG(10), LONG(90)));
	fails(syscall(SYS_truncate, "none", 1), ENOENT);
	must(syscall(SYS_chmod, "file", 0640));
	must(syscall(SYS_fchmod, file, 0644));
	must(syscall(SYS_fchmodat, AT_FDCWD, "file", 0600));
	must(syscall(SYS_chown, "file", uid, -1));
	must(syscall(SYS_lchown, "soft", -1, gid));
	must(syscall(SYS_fchown, file, uid, gid));
	must(syscall(SYS_fchownat, AT_FDCWD, "file", uid, gid, AT_SYMLINK_NOFOLLOW));
	must(syscall(SYS_fchownat, file, "", uid, gid, AT_EMPTY_PATH));
	struct utimbuf seconds = { 1, 2 };
	must(syscall(SYS_utime, "file", &seconds));
	struct timeval micro[2] = { { 1, 5 }, { 2, 6 } };
	must(syscall(SYS_utimes, "file", micro));
	must(syscall(SYS_futimesat, AT_FDCWD, "file", micro));
	must(syscall(SYS_futimesat, file, NULL, micro));
	struct timespec nano[2] = { { 3, 7 }, { 0, UTIME_OMIT } };
	must(syscall(SYS_utimensat, AT_FDCWD, "file", nano, 0));
	must(syscall(SYS_utimensat, file, NULL, nano, 0));
	must(syscall(SYS_setxattr, "file", "user.a", "four", 4, 0));
	must(syscall(SYS_lsetxattr, "file", "user.b", "", 0, 0));
	must(syscall(SYS_fsetxattr, file, "user.c", "1", 1, 0));
	must(syscall(SYS_removexattr, "file", "user.a"));
	must(syscall(SYS_lremovexattr, "file", "user.b"));
	must(syscall(SYS_fremovexattr, file, "user.c"));
	fails(syscall(SYS_removexattr, "file", "user.a"), ENODATA);
	return 0;
}
