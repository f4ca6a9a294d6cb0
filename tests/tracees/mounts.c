/* Mounts in every way there is, in namespaces of its own. */
#include "tracee.h"
#include <linux/mount.h>

#ifndef SYS_open_tree_attr
#define SYS_open_tree_attr 467
#endif

int main(void)
{
	must(syscall(SYS_unshare, CLONE_NEWUSER | CLONE_NEWNS));
	must(syscall(SYS_mount, NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
	must(syscall(SYS_mount, "none", "a", "tmpfs", MS_NODEV, NULL));
	must(syscall(SYS_mount, "d/../d", "b", NULL, MS_BIND, NULL));
	fails(syscall(SYS_mount, "none", "missing", "tmpfs", 0, NULL), ENOENT);
	must(syscall(SYS_umount2, "b", MNT_DETACH));
	fails(syscall(SYS_umount2, "b", 0), EINVAL);

	int context = must(syscall(SYS_fsopen, "tmpfs", FSOPEN_CLOEXEC));
	must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "source", "some", 0));
	must(syscall(SYS_fsconfig, context, FSCONFIG_SET_STRING, "size", "1M", 0));
	must(syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0));
	int mount = must(syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0));
	must(syscall(SYS_move_mount, mount, "", AT_FDCWD, "b", MOVE_MOUNT_F_EMPTY_PATH));
	int picked = must(syscall(SYS_fspick, AT_FDCWD, "b", 0));
	must(syscall(SYS_fsconfig, picked, FSCONFIG_CMD_RECONFIGURE, NULL, NULL, 0));
	int tree = must(syscall(SYS_open_tree, AT_FDCWD, "d", OPEN_TREE_CLONE));
	must(syscall(SYS_move_mount, tree, "", AT_FDCWD, "c", MOVE_MOUNT_F_EMPTY_PATH));
	struct mount_attr attr = { .attr_set = MOUNT_ATTR_RDONLY };
	must(syscall(SYS_mount_setattr, AT_FDCWD, "c", 0, &attr, sizeof attr));
	/* Newer than some kernels. */
	syscall(SYS_open_tree_attr, AT_FDCWD, "d", 0, NULL, 0);

	/* Another namespace, and back. */
	int first = must(open("/proc/thread-self/ns/mnt", O_RDONLY));
	must(syscall(SYS_unshare, CLONE_NEWNS));
	must(syscall(SYS_setns, first, CLONE_NEWNS));
	return 0;
}
