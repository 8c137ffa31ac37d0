// inside ROOT USER PROGRAM [ARGUMENT…]: runs a program with another root, as another user. ROOT may be /. The root gets /proc, and the
// machine's /dev. USER none: a user in a user namespace that allows no others. What mounts it makes are its own.
#define _GNU_SOURCE
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void must(int failed, const char *what) {
  if (failed) perror(what), exit(98);
}

static void put(const char *file, const char *text) {
  int fd = open(file, O_WRONLY);
  must(fd < 0 || write(fd, text, strlen(text)) < 0, file);
  close(fd);
}

int main(int argc, char **argv) {
  must(argc < 4, "arguments");
  const char *root = argv[1], *user = argv[2];
  if (strcmp(root, "/")) {
    must(unshare(CLONE_NEWNS), "unshare");
    must(mount("none", "/", 0, MS_REC | MS_PRIVATE, 0), "private");
    must(mount(root, root, 0, MS_BIND | MS_REC, 0), root);
    must(chdir(root), root);
    if (!access("proc", F_OK)) must(mount("proc", "proc", "proc", 0, 0), "proc");
    if (!access("dev", F_OK)) must(mount("/dev", "dev", 0, MS_BIND | MS_REC, 0), "dev");
    must(syscall(SYS_pivot_root, ".", "."), "pivot_root");
    must(umount2(".", MNT_DETACH), "umount");
    must(chdir("/"), "/");
  }
  if (!strcmp(user, "none")) {
    must(setgid(1234) || setuid(1234), "ids");
    must(prctl(PR_SET_DUMPABLE, 1), "dumpable");
    must(unshare(CLONE_NEWUSER), "unshare");
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", "1234 1234 1");
    put("/proc/self/gid_map", "1234 1234 1");
    put("/proc/sys/user/max_user_namespaces", "0");
  } else if (strcmp(user, "0")) {
    gid_t group = 4242;
    must(setgroups(1, &group) || setgid(atoi(user)) || setuid(atoi(user)), "ids");
  }
  execv(argv[3], argv + 3);
  must(1, argv[3]);
}
