//! Questions to the name service of the machine. They are asked by the C library, which nobody can interrupt: where name servers
//! are silent, a thread stays with such a question for half a minute, long after the attempt it was for has ended. So there is
//! an end to how many threads they take from those that the store reads with, and as long as fewer names hang than there are
//! places for slow ones, they hold up no other.

use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

/// A question that has been open for so long leaves its place to others, and takes one among the slow.
const SLOW: Duration = Duration::from_secs(1);

/// The questions of this process. Together they take at most half of the threads of the runtime.
pub(super) static LOOKUPS: Lookups = Lookups::new(64, 192);

type Answer = Result<Vec<IpAddr>, (io::ErrorKind, String)>;
type Answers = watch::Receiver<Option<Answer>>;

/// Open questions: a name that is being asked for is not asked for again, whoever wants to know.
#[derive(Debug)]
pub(super) struct Lookups {
    quick: Semaphore,
    slow: Semaphore,
    open: Mutex<BTreeMap<String, Answers>>,
}

/// What a question's thread holds.
type Place = Arc<Mutex<SemaphorePermit<'static>>>;

/// Ends a question in whatever way its thread does.
struct Question {
    lookups: &'static Lookups,
    name: String,
    answer: watch::Sender<Option<Answer>>,
    _place: Place,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.lookups.open().remove(&self.name);
    }
}

impl Lookups {
    const fn new(quick: usize, slow: usize) -> Self {
        Self {
            quick: Semaphore::const_new(quick),
            slow: Semaphore::const_new(slow),
            open: Mutex::new(BTreeMap::new()),
        }
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<String, Answers>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a name with `ask`, on a thread that may wait. The question outlives whoever gives up waiting for it.
    pub(super) async fn find<A>(&'static self, name: String, ask: A) -> io::Result<Vec<IpAddr>>
    where
        A: FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
    {
        let open = self.open().get(&name).cloned();
        let (mut answer, place) = match open {
            Some(answer) => (answer, None),
            None => {
                let place = self.quick.acquire().await.map_err(io::Error::other)?;
                self.begin(name, place, ask)
            }
        };
        if let Some(place) = place
            && tokio::time::timeout(SLOW, answer.wait_for(Option::is_some))
                .await
                .is_err()
        {
            tokio::select! {
                Ok(slow) = self.slow.acquire() => {
                    *place.lock().unwrap_or_else(PoisonError::into_inner) = slow;
                }
                _ = answer.wait_for(Option::is_some) => {}
            }
        }
        let answered = answer.wait_for(Option::is_some).await;
        let answered = answered.ok().and_then(|answer| answer.clone());
        match answered {
            Some(Ok(found)) => Ok(found),
            Some(Err((kind, reason))) => Err(io::Error::new(kind, reason)),
            None => Err(io::Error::other("the server failed while it asked for the name")),
        }
    }

    /// Begins a question, unless somebody has meanwhile.
    fn begin<A>(
        &'static self,
        name: String,
        place: SemaphorePermit<'static>,
        ask: A,
    ) -> (Answers, Option<Place>)
    where
        A: FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
    {
        let mut open = self.open();
        if let Some(answer) = open.get(&name) {
            return (answer.clone(), None);
        }
        let (sender, answer) = watch::channel(None);
        open.insert(name.clone(), answer.clone());
        drop(open);
        let place = Arc::new(Mutex::new(place));
        let question = Question {
            lookups: self,
            name,
            answer: sender,
            _place: Arc::clone(&place),
        };
        tokio::task::spawn_blocking(move || {
            let found = ask(&question.name).map_err(|error| (error.kind(), error.to_string()));
            question.answer.send_replace(Some(found));
        });
        (answer, Some(place))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc,
    };

    use tokio::task::JoinSet;

    use super::*;

    /// Only reached where a test fails.
    const PATIENCE: Duration = Duration::from_secs(20);

    fn lookups(quick: usize, slow: usize) -> &'static Lookups {
        Box::leak(Box::new(Lookups::new(quick, slow)))
    }

    fn here(_: &str) -> io::Result<Vec<IpAddr>> {
        Ok(vec![IpAddr::from([127, 0, 0, 1])])
    }

    /// A name service that is silent until it is dropped, and how often it was asked.
    struct Silent {
        asked: Arc<AtomicUsize>,
        hold: Vec<mpsc::Sender<()>>,
    }

    impl Silent {
        fn new() -> Self {
            Self {
                asked: Arc::default(),
                hold: Vec::new(),
            }
        }

        fn ask(&mut self) -> impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + use<> {
            let (hold, held) = mpsc::channel();
            self.hold.push(hold);
            let asked = Arc::clone(&self.asked);
            move |name| {
                asked.fetch_add(1, Ordering::Relaxed);
                let _released = held.recv();
                here(name)
            }
        }

        async fn wait(&self, count: usize) {
            let reached = async {
                while self.asked.load(Ordering::Relaxed) < count {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            tokio::time::timeout(PATIENCE, reached)
                .await
                .expect("as many questions");
        }
    }

    #[tokio::test]
    async fn names_that_hang_hold_up_no_other_and_take_a_bounded_number_of_threads() {
        let (lookups, mut silent, mut waiting) = (lookups(2, 4), Silent::new(), JoinSet::new());
        for number in 0..4 {
            waiting.spawn(lookups.find(format!("{number}.silent.test"), silent.ask()));
        }
        silent.wait(4).await;
        let well = tokio::time::timeout(PATIENCE, lookups.find("well.test".to_owned(), here)).await;
        assert_eq!(well.expect("a place").unwrap(), here("").unwrap());
        // Now with more than there is room for: the rest waits, and has no thread.
        for number in 4..9 {
            waiting.spawn(lookups.find(format!("{number}.silent.test"), silent.ask()));
        }
        silent.wait(6).await;
        let late = std::pin::pin!(lookups.find("well.test".to_owned(), here));
        assert!(futures_util::poll!(late).is_pending());
        // Whoever asked may go away: the threads are theirs all the same, until they are back.
        waiting.shutdown().await;
        let free = (
            lookups.quick.available_permits(),
            lookups.slow.available_permits(),
        );
        assert_eq!((free, lookups.open().len()), ((0, 0), 6));
        drop(silent);
        let well = tokio::time::timeout(PATIENCE, lookups.find("well.test".to_owned(), here)).await;
        assert_eq!(well.expect("a place").unwrap(), here("").unwrap());
    }

    #[tokio::test]
    async fn a_name_that_hangs_is_asked_for_once_and_answered_to_all_and_then_asked_for_anew() {
        let (lookups, mut silent, mut waiting) = (lookups(4, 4), Silent::new(), JoinSet::new());
        for _ in 0..3 {
            waiting.spawn(lookups.find("silent.test".to_owned(), silent.ask()));
        }
        silent.wait(1).await;
        silent.hold.clear();
        while let Some(found) = waiting.join_next().await {
            assert_eq!(found.unwrap().unwrap(), here("").unwrap());
        }
        assert_eq!(silent.asked.load(Ordering::Relaxed), 1);
        let refused = |_: &str| Err(io::ErrorKind::NotFound.into());
        let anew = lookups.find("silent.test".to_owned(), refused).await;
        assert_eq!(anew.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[tokio::test]
    async fn a_question_that_fails_in_here_is_an_error_and_leaves_its_place() {
        let lookups = lookups(1, 1);
        let broken = |_: &str| panic!("a bug");
        let failed = lookups.find("broken.test".to_owned(), broken).await;
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::Other);
        let well = tokio::time::timeout(PATIENCE, lookups.find("broken.test".to_owned(), here)).await;
        assert!(well.expect("a place").is_ok());
    }
}
