//! Whose turn it is where tenants wait for the same thing: nobody's crowd may hold up somebody else's one.

use std::collections::VecDeque;

/// What one tenant holds already and what it waits for, in its order.
pub(super) struct Queue<T> {
    pub(super) held: usize,
    pub(super) waiting: VecDeque<T>,
}

/// Deals out `places`: each to the queue that holds the fewest, those dealt included, and where several do, to the
/// one whose first has the lowest order.
pub(super) fn deal<T, K: Ord>(mut queues: Vec<Queue<T>>, places: usize, order: impl Fn(&T) -> K) -> Vec<T> {
    let mut dealt = Vec::new();
    while dealt.len() < places {
        let next = queues
            .iter_mut()
            .filter_map(|queue| {
                let key = (queue.held, order(queue.waiting.front()?));
                Some((key, queue))
            })
            .min_by(|(one, _), (other, _)| one.cmp(other));
        let Some((_, queue)) = next else { break };
        queue.held += 1;
        dealt.extend(queue.waiting.pop_front());
    }
    dealt
}

/// The head of a statement that has each tenant with a row of `table` that meets `condition`, once, as
/// `waiting (tenant_id)`, and at its end a row of NULL. It steps from tenant to tenant and never walks one's rows, if
/// an index leads from the condition to the tenant.
pub(super) fn waiting(table: &str, condition: &str) -> String {
    format!(
        "WITH RECURSIVE waiting (tenant_id) AS (
           SELECT MIN(tenant_id) FROM {table} WHERE {condition}
           UNION ALL
           SELECT (SELECT MIN(t.tenant_id) FROM {table} t WHERE {condition} AND t.tenant_id > w.tenant_id)
           FROM waiting w WHERE w.tenant_id IS NOT NULL)"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(queues: &[(usize, &[u32])], places: usize) -> Vec<u32> {
        let queues = queues.iter().map(|(held, waiting)| Queue {
            held: *held,
            waiting: waiting.iter().copied().collect(),
        });
        deal(queues.collect(), places, |order| *order)
    }

    #[test]
    fn turns_go_round_and_a_crowd_waits() {
        assert_eq!(dealt(&[(0, &[1, 2, 3, 4]), (0, &[9])], 3), [1, 9, 2]);
        assert_eq!(dealt(&[(2, &[1, 2]), (0, &[8, 9])], 3), [8, 9, 1]);
        assert_eq!(dealt(&[(0, &[5]), (0, &[3]), (0, &[4])], 9), [3, 4, 5]);
        assert_eq!(dealt(&[(0, &[1])], 0), [] as [u32; 0]);
    }
}
