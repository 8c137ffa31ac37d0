// A full-screen program: shows the terminal's size until q is pressed. What it uses of ncurses is declared here, so that only the
// library has to be installed.
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct window WINDOW;
extern WINDOW *stdscr;
WINDOW *initscr(void);
int cbreak(void), noecho(void), endwin(void);
int keypad(WINDOW *, bool), wclear(WINDOW *), wrefresh(WINDOW *), wgetch(WINDOW *);
int getmaxx(const WINDOW *), getmaxy(const WINDOW *), mvprintw(int, int, const char *, ...);

int main(void) {
  setenv("TERMINFO", TERMINFO, 1);
  initscr(), cbreak(), noecho(), keypad(stdscr, true);
  for (int key = 0; key != 'q'; key = wgetch(stdscr)) {
    wclear(stdscr);
    mvprintw(0, 0, "a screen of %d by %d", getmaxy(stdscr), getmaxx(stdscr));
    wrefresh(stdscr);
  }
  endwin();
  puts("it is over");
  return 0;
}
