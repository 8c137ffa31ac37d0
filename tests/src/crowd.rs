//! A crowd: many clients who ask at the same moment, each time for a package that is not built yet.

use std::{
    ops::RangeInclusive,
    sync::{Arc, Barrier},
    thread::{self, JoinHandle},
};

use crate::{
    http::Answer,
    site::{Site, wait_for},
};

/// Its clients, each at an address of its own.
pub const CLIENTS: usize = 80;
/// What each of them wants.
pub const EACH: usize = 25;
/// The builds that each of them may have started: so not all that it wants.
pub const ALLOWED: u32 = 20;

/// A package for each wish, for [`fresh_set`](crate::server::fresh_set): `failing.crowd.p0` and so on. One in eight cannot be evaluated;
/// the others are built in seconds.
pub fn packages() -> String {
    format!(
        r#"
  crowd = builtins.listToAttrs (builtins.genList (n: let
    name = "p${{toString n}}";
  in {{
    inherit name;
    value = if n / 8 * 8 == n then throw "${{name}} cannot be evaluated" else package name {{ }};
  }}) {});
"#,
        CLIENTS * EACH
    )
}

/// The nth wish.
fn target(n: usize) -> String {
    format!("failing.crowd.p{n}")
}

/// Acts so many times at the same moment, each with its number from 0 on. What each returned, in order.
pub fn at_once<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (start, act) = (&Barrier::new(count), &act);
    thread::scope(|scope| {
        let begin = |n| {
            scope.spawn(move || {
                start.wait();
                act(n)
            })
        };
        let all: Vec<_> = (0..count).map(begin).collect();
        all.into_iter().map(|one| one.join().expect("it ends")).collect()
    })
}

/// All wishes.
pub fn targets() -> impl Iterator<Item = String> {
    (0..CLIENTS * EACH).map(target)
}

/// All ask at the same moment, and again after no answer or a 503, as `curl --retry` does. Gives
/// what each client was answered.
pub fn asks(site: &Site) -> JoinHandle<Vec<Vec<Answer>>> {
    let start = Arc::new(Barrier::new(CLIENTS * EACH));
    let asks = |client: usize, n: usize| {
        let site = site.asked_from(&format!("127.0.1.{}", 1 + client));
        let (start, path) = (Arc::clone(&start), format!("/{}", target(client * EACH + n)));
        let thread = thread::Builder::new().stack_size(1 << 18).spawn(move || {
            start.wait();
            wait_for(&path, || site.answered(&path))
        });
        thread.expect("a thread")
    };
    let clients: Vec<Vec<_>> = (0..CLIENTS).map(|client| (0..EACH).map(|n| asks(client, n)).collect()).collect();
    let answers =
        |client: Vec<JoinHandle<Answer>>| client.into_iter().map(|one| one.join().expect("an answer")).collect();
    thread::spawn(move || clients.into_iter().map(answers).collect())
}

/// Looks at what each client was answered: as many builds as it may, and no more; and who was answered when the budget was spent was
/// told so, also where the build had been queued just then. Tells how many builds were charged, at least and at most.
pub fn was_allowed(clients: &[Vec<Answer>]) -> RangeInclusive<usize> {
    let (mut least, mut most) = (0, 0);
    for answers in clients {
        let count = |statuses: &[u16]| answers.iter().filter(|answer| statuses.contains(&answer.status)).count();
        // Whose first answer was lost may find the build at its end.
        let (mine, refused, spent) = (count(&[202, 302, 422]), count(&[429]), count(&[503]));
        assert_eq!(mine + refused + spent, EACH, "{:?}", answers.iter().map(|a| a.status).collect::<Vec<_>>());
        let allowed = ALLOWED as usize;
        assert!(mine <= allowed && (refused == 0 || mine + spent >= allowed), "{mine} {refused} {spent}");
        (least, most) = (least + mine, most + allowed.min(mine + spent));
    }
    least..=most
}

impl Site {
    /// A final answer of the service itself, if there is one.
    pub fn answered(&self, path: &str) -> Option<Answer> {
        let answer = self.try_get(path).ok().filter(|answer| answer.header("x-request-id").is_some())?;
        (answer.status != 503 || answer.text().contains("build budget")).then_some(answer)
    }
}
