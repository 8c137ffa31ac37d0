// What a program sees: all that a bundle has to leave as it is, and what only its own store has.
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

extern char **environ;

static int fail(const char *what) {
  fprintf(stderr, "probe: %s: %s\n", what, strerror(errno));
  return 99;
}

static int state(int argc, char **argv) {
  for (int i = 2; i < argc; i++) printf("argument %s\n", argv[i]);
  for (char **variable = environ; *variable; variable++) printf("variable %s\n", *variable);
  char text[4096];
  printf("directory %s\n", getcwd(text, sizeof text) ? text : strerror(errno));
  mode_t mask = umask(0);
  printf("umask %o\n", mask);
  printf("ids %d %d %d %d\n", getuid(), geteuid(), getgid(), getegid());
  gid_t groups[64];
  int count = getgroups(64, groups);
  if (getuid() == 0) for (int i = 0; i < count; i++) printf("group %d\n", groups[i]);
  printf("processes %d %d %d\n", getppid(), getpgrp(), getsid(0));
  for (int kind = 0; kind < RLIM_NLIMITS; kind++) {
    struct rlimit limit;
    getrlimit(kind, &limit);
    printf("limit %lu %lu\n", limit.rlim_cur, limit.rlim_max);
  }
  for (int fd = 0; fd < 64; fd++) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(name, text, sizeof text - 1);
    if (length >= 0) text[length] = 0, text[strcspn(text, "[")] = 0, printf("file %d %s\n", fd, text);
  }
  FILE *status = fopen("/proc/self/status", "r");
  while (status && fgets(text, sizeof text, status))
    if (!strncmp(text, "SigBlk", 6) || !strncmp(text, "SigIgn", 6) || !strncmp(text, "NoNewPrivs", 10)) fputs(text, stdout);
  return 0;
}

static int list(const char *path) {
  DIR *dir = opendir(path);
  if (!dir) return fail(path);
  for (struct dirent *entry; (entry = readdir(dir));) if (entry->d_name[0] != '.') puts(entry->d_name);
  return 0;
}

static int copy(int fd) {
  char bytes[65536];
  for (ssize_t length; (length = read(fd, bytes, sizeof bytes)) > 0;) if (write(1, bytes, length) != length) return fail("write");
  return 0;
}

static int print(const char *path) {
  int fd = open(path, O_RDONLY);
  return fd < 0 ? fail(path) : copy(fd);
}

static void on_continue(int signal) {
  const char text[] = "continued\n";
  if (write(1, text, sizeof text - 1) < 0) _exit(signal);
}

static int wait_for_signals(void) {
  signal(SIGCONT, on_continue);
  puts("waiting");
  fflush(stdout);
  for (;;) pause();
}

static volatile sig_atomic_t resized;
static void on_resize(int signal) { resized = signal; }

static int resize(void) {
  sigset_t blocked, before;
  signal(SIGWINCH, on_resize);
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGWINCH);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  puts("waiting");
  fflush(stdout);
  while (!resized) sigsuspend(&before);
  struct winsize size;
  if (ioctl(0, TIOCGWINSZ, &size)) return fail("TIOCGWINSZ");
  printf("now %d by %d\n", size.ws_row, size.ws_col);
  return 0;
}

int main(int argc, char **argv) {
  const char *what = argc > 1 ? argv[1] : "hello", *with = argc > 2 ? argv[2] : "";
  if (!strcmp(what, "hello")) return printf("hello from %s\n", argv[0]), 0;
  if (!strcmp(what, "state")) return state(argc, argv);
  if (!strcmp(what, "exit")) return atoi(with);
  if (!strcmp(what, "die")) return raise(atoi(with)), pause();
  if (!strcmp(what, "variable")) return puts(getenv(with) ? getenv(with) : "unset"), 0;
  if (!strcmp(what, "print")) return print(with);
  if (!strcmp(what, "list")) return list(with);
  if (!strcmp(what, "copy")) return copy(0);
  if (!strcmp(what, "write")) return open(with, O_WRONLY | O_CREAT, 0666) < 0 ? fail(with) : 0;
  if (!strcmp(what, "wait")) return wait_for_signals();
  if (!strcmp(what, "resize")) return resize();
  if (!strcmp(what, "sibling")) return execl(SIBLING, "sibling", "hello", (char *)0), fail(SIBLING);
  if (!strcmp(what, "run")) return execv(with, argv + 2), fail(with);
#ifdef PLUGIN
  if (!strcmp(what, "plugin")) {
    void *plugin = dlopen(PLUGIN, RTLD_NOW);
    if (!plugin) return fprintf(stderr, "%s\n", dlerror()), 99;
    return puts(((const char *(*)(void))dlsym(plugin, "name"))()), 0;
  }
#endif
  errno = EINVAL;
  return fail(what);
}
