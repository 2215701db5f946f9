//! DOOR: threads, and the two borders between threads and tasks. A [`Slot`] keeps the
//! latest value, for what only the newest of counts (pictures); a [`Mailbox`] keeps a
//! bounded number in order. Nobody blocks who posts: what finds no room comes back.
#![expect(clippy::disallowed_methods, reason = "door: threads")]

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use suora_protocol::fault::{Code, Fault};
use tokio::sync::mpsc;

/// Tells a thread to end, and wakes it where it waits.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<(Mutex<bool>, Condvar)>);

impl Stop {
    fn state(&self) -> MutexGuard<'_, bool> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the thread.
    pub fn set(&self) {
        *self.state() = true;
        self.0.1.notify_all();
    }

    /// Whether the thread has to end.
    pub fn is_set(&self) -> bool {
        *self.state()
    }

    /// Waits for a moment; true: the thread has to end instead.
    pub fn wait_until(&self, deadline: Instant) -> bool {
        let mut stopped = self.state();
        while !*stopped {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            stopped = self
                .0
                .1
                .wait_timeout(stopped, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *stopped
    }
}

/// A thread that ends when this is dropped.
#[derive(Debug)]
pub struct Worker {
    stop: Stop,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    /// Starts a named thread (15 bytes of the name are kept by the system).
    pub fn start(name: &str, body: impl FnOnce(Stop) + Send + 'static) -> Result<Self, Fault> {
        let stop = Stop::default();
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn(move || body(told))
            .map_err(|error| Fault::new(Code::Internal).with(format!("thread {name}: {error}")))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }

    /// Tells the thread to end, without waiting for it.
    pub fn stop(&self) {
        self.stop.set();
    }
}

impl Drop for Worker {
    /// Waits for the end. A thread that waits on a [`Slot`] or [`Mailbox`] ends when its other end is dropped or closed.
    fn drop(&mut self) {
        self.stop.set();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a worker thread panicked");
        }
    }
}

/// Runs something on a thread that nobody waits for: a call that may never come back.
pub fn detach(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Fault> {
    let thread = std::thread::Builder::new().name(name.into()).spawn(body);
    match thread {
        Ok(_) => Ok(()),
        Err(error) => Err(Fault::new(Code::Internal).with(format!("thread {name}: {error}"))),
    }
}

#[derive(Debug)]
struct Shared<T> {
    value: Option<T>,
    closed: bool,
}

/// Room for one value: the latest wins.
#[derive(Debug)]
pub struct Slot<T>(Arc<(Mutex<Shared<T>>, Condvar)>);

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        let shared = Shared {
            value: None,
            closed: false,
        };
        Self(Arc::new((Mutex::new(shared), Condvar::new())))
    }
}

impl<T> Slot<T> {
    fn shared(&self) -> MutexGuard<'_, Shared<T>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a value; gives back the one that nobody took.
    pub fn put(&self, value: T) -> Option<T> {
        let replaced = self.shared().value.replace(value);
        self.0.1.notify_one();
        replaced
    }

    /// Takes the value, if there is one.
    pub fn take(&self) -> Option<T> {
        self.shared().value.take()
    }

    /// Waits for a value; `None`: the slot was closed.
    pub fn wait(&self) -> Option<T> {
        let mut shared = self.shared();
        loop {
            if let Some(value) = shared.value.take() {
                return Some(value);
            }
            if shared.closed {
                return None;
            }
            shared = self
                .0
                .1
                .wait(shared)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nothing more comes: whoever waits goes on.
    pub fn close(&self) {
        self.shared().closed = true;
        self.0.1.notify_all();
    }
}

/// Where to put what a [`Mailbox`] gives.
#[derive(Debug)]
pub struct Post<T>(mpsc::Sender<T>);

impl<T> Clone for Post<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Post<T> {
    /// Posts a value; gives it back when the mailbox is full or gone.
    pub fn post(&self, value: T) -> Result<(), T> {
        self.0.try_send(value).map_err(|error| match error {
            mpsc::error::TrySendError::Full(value) | mpsc::error::TrySendError::Closed(value) => {
                value
            }
        })
    }

    /// Posts a value once there is room; false: the mailbox is gone.
    pub async fn send(&self, value: T) -> bool {
        self.0.send(value).await.is_ok()
    }

    /// Posts a value once there is room, from a thread; false: the mailbox is gone.
    pub fn send_blocking(&self, value: T) -> bool {
        self.0.blocking_send(value).is_ok()
    }

    /// Whether the mailbox is gone.
    pub fn is_closed(&self) -> bool {
        self.0.is_closed()
    }
}

/// A bounded queue, read by one task or thread.
#[derive(Debug)]
pub struct Mailbox<T>(mpsc::Receiver<T>);

impl<T> Mailbox<T> {
    /// The next value, in a task; `None`: all posts are gone. Safe to cancel.
    pub async fn recv(&mut self) -> Option<T> {
        self.0.recv().await
    }

    /// The next value, in a thread; `None`: all posts are gone.
    pub fn wait(&mut self) -> Option<T> {
        self.0.blocking_recv()
    }

    /// The next value, if there is one.
    pub fn take(&mut self) -> Option<T> {
        self.0.try_recv().ok()
    }
}

/// A mailbox for `bound` values, and its post.
pub fn mailbox<T>(bound: usize) -> (Post<T>, Mailbox<T>) {
    let (sender, receiver) = mpsc::channel(bound);
    (Post(sender), Mailbox(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_keeps_the_latest() {
        let slot = Slot::default();
        assert_eq!(slot.put(1), None);
        assert_eq!(slot.put(2), Some(1));
        assert_eq!(slot.wait(), Some(2));
        slot.close();
        assert_eq!(slot.wait(), None);
    }

    #[test]
    fn a_full_mailbox_gives_back() {
        let (post, mut mailbox) = mailbox(1);
        assert_eq!(post.post(1), Ok(()));
        assert_eq!(post.post(2), Err(2));
        assert_eq!(mailbox.wait(), Some(1));
        drop(post);
        assert_eq!(mailbox.wait(), None);
    }

    #[test]
    fn a_worker_ends_when_dropped() {
        let slot = Slot::<u8>::default();
        let waiting = slot.clone();
        let worker = Worker::start("test", move |stop| {
            while !stop.wait_until(Instant::now() + std::time::Duration::from_secs(60)) {}
            waiting.put(7);
        })
        .unwrap();
        drop(worker);
        assert_eq!(slot.take(), Some(7));
    }
}
