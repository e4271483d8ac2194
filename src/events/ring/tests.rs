//! The order, the bounds and the counts of a ring, by examples and by a model.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Lines(u64, usize);

impl Weigh for Lines {
    fn bytes(&self) -> usize {
        self.1
    }

    fn count(&self) -> u64 {
        self.0
    }
}

fn rest(receiver: &mut Receiver<Lines>) -> Vec<Received<Lines>> {
    std::iter::from_fn(|| receiver.try_recv().ok()).collect()
}

#[test]
fn each_receiver_gets_each_value_and_what_all_have_read_is_dropped() {
    let ring = Ring::new(100, Pool::default());
    let (mut one, mut two) = (Receiver::new(ring.clone()), Receiver::new(ring.clone()));
    ring.send(Lines(1, 10));
    ring.send(Lines(2, 10));
    assert_eq!(rest(&mut one), [Received::Value(Lines(1, 10)), Received::Value(Lines(2, 10))]);
    assert_eq!(ring.state().bytes, 20);
    assert_eq!(two.try_recv(), Ok(Received::Value(Lines(1, 10))));
    assert_eq!(ring.state().bytes, 10);
    drop(two);
    assert_eq!(ring.state().bytes, 0);
    assert_eq!(ring.receivers(), 1);
    assert_eq!(one.try_recv(), Err(Nothing::Yet));
}

#[test]
fn a_slow_receiver_gets_the_count_of_what_it_missed_and_a_fast_one_misses_nothing() {
    let ring = Ring::new(100, Pool::default());
    let (mut slow, mut fast) = (Receiver::new(ring.clone()), Receiver::new(ring.clone()));
    for number in 1..=10 {
        ring.send(Lines(number, 40));
        assert_eq!(fast.try_recv(), Ok(Received::Value(Lines(number, 40))));
    }
    let expected = [Received::Missed(36), Received::Value(Lines(9, 40)), Received::Value(Lines(10, 40))];
    assert_eq!(rest(&mut slow), expected);
    ring.send(Lines(1, 1000));
    assert_eq!(rest(&mut slow), [Received::Value(Lines(1, 1000))], "one value is never too large");
}

#[test]
fn rings_that_hold_too_much_together_keep_less_each() {
    let pool = Pool::default();
    let (own, large) = (40 << 20, 10 << 20);
    let rings: Vec<_> = (0..4).map(|_| Ring::new(own, pool.clone())).collect();
    let receivers: Vec<_> = rings.iter().map(|ring| Receiver::new(ring.clone())).collect();
    for ring in &rings {
        (0..4).for_each(|number| ring.send(Lines(number, large)));
    }
    let held: Vec<_> = rings.iter().map(|ring| ring.state().bytes >> 20).collect();
    assert_eq!(held, [40, 40, 40, 10], "the last one had no more room");
    drop((receivers, rings));
    assert_eq!(pool.used.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_closed_ring_is_read_to_its_end() {
    let ring = Ring::new(100, Pool::default());
    let mut receiver = Receiver::new(ring.clone());
    ring.send(Lines(1, 1));
    ring.close();
    assert_eq!(receiver.recv().await, Some(Received::Value(Lines(1, 1))));
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test]
async fn a_receiver_waits_for_the_next_value() {
    let ring = Ring::new(100, Pool::default());
    let mut receiver = Receiver::new(ring.clone());
    let (received, ()) = tokio::join!(receiver.recv(), async { ring.send(Lines(3, 1)) });
    assert_eq!(received, Some(Received::Value(Lines(3, 1))));
}

proptest! {
    /// Against receivers with a queue each: what is received and what is missed add up to what was sent, in order.
    #[test]
    fn what_is_received_and_missed_adds_up(actions in prop::collection::vec((0_u8..4, 0_usize..3, 1_usize..60), 0..200)) {
        let ring = Ring::new(100, Pool::default());
        let mut receivers: Vec<Option<(Receiver<Lines>, VecDeque<u64>)>> = vec![None, None, None];
        let mut number = 0;
        for (action, which, bytes) in actions {
            match (action, &mut receivers[which]) {
                (0, slot @ None) => *slot = Some((Receiver::new(ring.clone()), VecDeque::new())),
                (1, slot) if bytes < 10 => *slot = None,
                (2, Some((receiver, sent))) => match receiver.try_recv() {
                    Ok(Received::Value(Lines(number, _))) => prop_assert_eq!(sent.pop_front(), Some(number)),
                    Ok(Received::Missed(missed)) => {
                        let mut sum = 0;
                        while sum < missed {
                            sum += sent.pop_front().unwrap();
                        }
                        prop_assert_eq!(sum, missed);
                    }
                    Err(_) => prop_assert!(sent.is_empty()),
                },
                _ => {
                    number += 1;
                    ring.send(Lines(number, bytes));
                    receivers.iter_mut().flatten().for_each(|(_, sent)| sent.push_back(number));
                }
            }
            let state = ring.state();
            prop_assert!(state.bytes <= 100);
            prop_assert_eq!(state.bytes, state.entries.iter().map(|entry| entry.bytes).sum::<usize>());
            prop_assert_eq!(state.receivers, receivers.iter().flatten().count());
        }
        receivers.clear();
        prop_assert_eq!(ring.state().entries.len(), 0);
    }
}
