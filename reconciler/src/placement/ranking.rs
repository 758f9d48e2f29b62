//! The order in which nodes stand in line for each VIP, and its base owner: once per generation.
//!
//! In: `Desired`. Out: [`Ranking`]. Not here: who is alive or able (`place`), the hash (`hash`).
//!
//! A pool's *candidates* are the declared nodes of weight > 0 that it selects, cordoned or not. Its
//! ranking depends on these, on its own addresses, `prefer` and `together`, and on nothing else: so
//! a change touches no other pool.
//!
//! Only the first [`HEAD`] of each order are sorted at first, which is all that placement looks at
//! unless many nodes are away; the rest is worked out when asked for, once.

use std::sync::{Arc, OnceLock};

use crate::manifest::desired::{Desired, PlacementMode, Pool};
use crate::name::{NodeName, PoolName};
use crate::placement::hash::{Hash, Score};
use crate::vip::Vip;

/// So many nodes of each order are ranked ahead.
const HEAD: usize = 6;

/// So many hashes are worth a thread of their own: a millisecond or two.
const THREAD: usize = 20_000;

/// With so many new candidates in a pool an earlier ranking is worth little.
const ADDED: usize = 8;

/// Stands for "no node" among node indices.
pub(super) const NOBODY: u16 = u16::MAX;

/// Orders and base owners of every VIP of a generation.
#[derive(Debug, Clone)]
pub struct Ranking {
    nodes: Arc<[NodeName]>,
    pools: Vec<RankedPool>,
    vips: Vec<RankedVip>,
    lines: Vec<Line>,
    by_address: Vec<u32>,
}

/// A VIP and the pool that declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankedVip {
    /// The pool.
    pub pool: PoolName,
    /// The address.
    pub vip: Vip,
}

#[derive(Debug, Clone)]
pub(super) struct RankedPool {
    pub(super) name: PoolName,
    /// Indices into `vips`.
    pub(super) vips: std::ops::Range<usize>,
    pub(super) together: bool,
    /// Index and weight.
    candidates: Vec<(u16, u8)>,
    prefer: Vec<u16>,
    weighted: bool,
}

/// Room that one VIP after another is ranked in.
#[derive(Default)]
struct Scratch {
    hashes: Vec<(Hash, u8, u16)>,
    best: Vec<(Score, u16)>,
}

/// The nodes in line for one VIP, or for all of a pool that is placed together.
#[derive(Debug, Clone)]
struct Line {
    base: u16,
    head: [u16; HEAD],
    whole: OnceLock<Box<[u16]>>,
}

/// At most so many of a pool's `vips` have a node of `weight` as their base, of candidates that
/// weigh `total` together: 1.25 times its share, rounded up.
pub fn cap(vips: usize, weight: u8, total: u64) -> u64 {
    (5 * vips as u64 * u64::from(weight)).div_ceil(4 * total.max(1))
}

impl Ranking {
    /// Ranks every VIP. Costs a SHA-256 per VIP and candidate: 10,000 VIPs on 100 nodes take tens of
    /// milliseconds, so the daemon does it where a fresh generation is loaded, not in the engine's step.
    pub fn new(desired: &Desired) -> Self {
        Self::after(desired, None)
    }

    /// The same, with the help of the ranking of an earlier generation: what did not change is not hashed again.
    pub fn after(desired: &Desired, earlier: Option<&Self>) -> Self {
        // An index has 16 bits and one value is taken; a segment has no more nodes than that.
        let nodes: Arc<[NodeName]> = desired.nodes.keys().take(usize::from(NOBODY)).cloned().collect();
        let mut ranking =
            Self { nodes, pools: Vec::new(), vips: Vec::new(), lines: Vec::new(), by_address: Vec::new() };
        for (name, pool) in &desired.pools {
            let from = ranking.vips.len();
            ranking.vips.extend(pool.addresses.iter().map(|vip| RankedVip { pool: name.clone(), vip: *vip }));
            let ranked = RankedPool::new(desired, &ranking.nodes, name, pool, from..ranking.vips.len());
            let texts: Vec<String> = if pool.together {
                vec![name.to_string(); usize::from(!pool.addresses.is_empty())]
            } else {
                pool.addresses.iter().map(Vip::to_string).collect()
            };
            let known = earlier.and_then(|earlier| Known::new(&ranked, &ranking.nodes, earlier, &pool.addresses));
            let mut lines = ranked.lines(&ranking.nodes, &texts, desired.cluster.placement, known.as_ref());
            if let ([line], true) = (&lines[..], pool.together) {
                lines = vec![line.clone(); pool.addresses.len()];
            }
            ranking.lines.extend(lines);
            ranking.pools.push(ranked);
        }
        ranking.by_address = (0..ranking.vips.len() as u32).collect();
        ranking.by_address.sort_unstable_by_key(|at| ranking.vips[*at as usize].vip);
        ranking
    }

    /// Every VIP, in order of pool name and address: the VIPs' indices everywhere else.
    pub fn vips(&self) -> &[RankedVip] {
        &self.vips
    }

    /// Every declared node, by name: the nodes' indices.
    pub fn nodes(&self) -> &[NodeName] {
        &self.nodes
    }

    /// The index of a VIP.
    pub fn index_of(&self, vip: Vip) -> Option<usize> {
        let at = self.by_address.binary_search_by_key(&vip, |at| self.vips[*at as usize].vip).ok()?;
        Some(self.by_address[at] as usize)
    }

    /// The base owner of a VIP: who has it while everybody is there.
    pub fn base(&self, vip: usize) -> Option<&NodeName> {
        self.nodes.get(usize::from(self.lines.get(vip)?.base))
    }

    /// The candidates of a VIP in their order: `prefer` first, then by score. Empty for an unknown VIP.
    pub fn order(&self, vip: usize) -> &[u16] {
        let Some(line) = self.lines.get(vip) else { return &[] };
        let pool = self.pool_of(vip);
        if pool.candidates.len() <= HEAD {
            return &line.head[..pool.candidates.len()];
        }
        line.whole.get_or_init(|| {
            let text = if pool.together { pool.name.to_string() } else { self.vips[vip].vip.to_string() };
            pool.order(&self.nodes, &text).into()
        })
    }

    /// The candidates of a VIP in the order in which they would get it: its base, then by rank.
    pub fn succession(&self, vip: usize) -> impl Iterator<Item = u16> + '_ {
        let line = self.lines.get(vip);
        let base = line.map(|line| line.base).filter(|base| *base != NOBODY);
        let head = line.map_or(&[][..], |line| &line.head);
        let head = &head[..head.iter().take_while(|node| **node != NOBODY).count()];
        // The whole order is worked out only when an iteration goes beyond the head.
        let tail =
            (HEAD..).map_while(move |at| if head.len() == HEAD { self.order(vip).get(at).copied() } else { None });
        base.into_iter().chain(head.iter().copied().chain(tail).filter(move |node| Some(*node) != base))
    }

    /// Works out every order to its end, so that no later question costs a hash. For a cluster in
    /// which few nodes can carry a pool that many could: the daemon calls it where it made the ranking.
    pub fn complete(&self) {
        for vip in 0..self.vips.len() {
            self.order(vip);
        }
    }

    pub(super) fn pools(&self) -> &[RankedPool] {
        &self.pools
    }

    pub(super) fn shared_nodes(&self) -> Arc<[NodeName]> {
        Arc::clone(&self.nodes)
    }

    fn pool_of(&self, vip: usize) -> &RankedPool {
        &self.pools[self.pools.partition_point(|pool| pool.vips.end <= vip)]
    }
}

impl RankedPool {
    fn new(desired: &Desired, nodes: &[NodeName], name: &PoolName, pool: &Pool, vips: std::ops::Range<usize>) -> Self {
        let candidates: Vec<(u16, u8)> = (0..)
            .zip(desired.nodes.values().take(nodes.len()))
            .filter(|(_, node)| node.weight > 0 && pool.selects(node))
            .map(|(index, node)| (index, node.weight))
            .collect();
        let mut prefer: Vec<u16> = Vec::new();
        for node in &pool.prefer {
            let found = nodes.binary_search(node).ok().map(|index| index as u16);
            if let Some(index) = found.filter(|index| candidates.iter().any(|(node, _)| node == index))
                && !prefer.contains(&index)
            {
                prefer.push(index);
            }
        }
        let weighted = candidates.windows(2).any(|pair| pair[0].1 != pair[1].1);
        Self { name: name.clone(), vips, together: pool.together, candidates, prefer, weighted }
    }

    fn score(&self, hash: Hash, weight: u8) -> Score {
        if self.weighted { Score::new(hash, weight) } else { Score::unweighted(hash) }
    }

    /// All candidates in order.
    fn order(&self, nodes: &[NodeName], text: &str) -> Vec<u16> {
        let mut scores: Vec<(Score, u16)> = self
            .candidates
            .iter()
            .map(|(node, weight)| (self.score(Hash::of(nodes[usize::from(*node)].as_str(), text), *weight), *node))
            .collect();
        scores.sort_unstable();
        let rest = scores.into_iter().map(|(_, node)| node).filter(|node| !self.prefer.contains(node));
        self.prefer.iter().copied().chain(rest).collect()
    }

    /// The first of the order of some candidates, and the best score of all of them.
    fn head(
        &self,
        nodes: &[NodeName],
        text: &str,
        candidates: &[(u16, u8)],
        scratch: &mut Scratch,
    ) -> ([u16; HEAD], Option<Score>) {
        let hash = |(node, weight): &(u16, u8)| (Hash::of(nodes[usize::from(*node)].as_str(), text), *weight, *node);
        scratch.hashes.clear();
        scratch.hashes.extend(candidates.iter().map(hash));
        let wanted = HEAD + self.prefer.len();
        // Under weights a score costs ten hashes: those that come out first are worked out first, by a rough
        // measure, so that the others need none.
        if self.weighted && scratch.hashes.len() > wanted {
            scratch.hashes.select_nth_unstable_by_key(wanted - 1, |(hash, weight, _)| hash.0[0] / u64::from(*weight));
        }
        let best = &mut scratch.best;
        best.clear();
        for (hash, weight, node) in &scratch.hashes {
            if best.len() == wanted {
                let worst = best[wanted - 1].0;
                if self.weighted && worst.surely_below(*hash, *weight) {
                    continue;
                }
                if (self.score(*hash, *weight), *node) >= best[wanted - 1] {
                    continue;
                }
                best.pop();
            }
            let entry = (self.score(*hash, *weight), *node);
            best.insert(best.partition_point(|other| *other < entry), entry);
        }
        let mut head = [NOBODY; HEAD];
        let rest = best.iter().map(|(_, node)| *node).filter(|node| !self.prefer.contains(node));
        for (slot, node) in head.iter_mut().zip(self.prefer.iter().copied().chain(rest)) {
            *slot = node;
        }
        (head, best.first().map(|(score, _)| *score))
    }

    /// The head for each text; many are shared among threads, which changes nothing of what comes out.
    fn heads(
        &self,
        nodes: &[NodeName],
        texts: &[String],
        known: Option<&Known<'_>>,
    ) -> Vec<([u16; HEAD], Option<Score>)> {
        let some = |first: usize, texts: &[String]| -> Vec<_> {
            let mut scratch = Scratch::default();
            let mut few = Vec::new();
            let one = |(at, text): (usize, &String)| {
                let candidates = match known.is_some_and(|known| known.candidates(at, &mut few)) {
                    true => &few,
                    false => &self.candidates,
                };
                self.head(nodes, text, candidates, &mut scratch)
            };
            (first..).zip(texts).map(one).collect()
        };
        let work = texts.len() * self.candidates.len();
        let threads = match work / THREAD {
            0 | 1 => 1,
            many => many.min(std::thread::available_parallelism().map_or(1, usize::from)),
        };
        if threads == 1 {
            return some(0, texts);
        }
        std::thread::scope(|scope| {
            let size = texts.len().div_ceil(threads);
            let chunks = texts.chunks(size).enumerate();
            let running: Vec<_> =
                chunks.map(|(number, chunk)| scope.spawn(move || some(number * size, chunk))).collect();
            let joined = running.into_iter().flat_map(|thread| match thread.join() {
                Ok(heads) => heads,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            joined.collect()
        })
    }

    /// The line for each text, with its base.
    fn lines(&self, nodes: &[NodeName], texts: &[String], mode: PlacementMode, known: Option<&Known<'_>>) -> Vec<Line> {
        let heads = self.heads(nodes, texts, known);
        let mut lines: Vec<Line> =
            heads.iter().map(|(head, _)| Line { base: head[0], head: *head, whole: OnceLock::new() }).collect();
        // `prefer` goes before the cap; what is placed together never meets it.
        if mode == PlacementMode::Rendezvous || !self.prefer.is_empty() || self.together {
            return lines;
        }
        let total = self.candidates.iter().map(|(_, weight)| u64::from(*weight)).sum();
        let mut room = vec![0; nodes.len()];
        for (node, weight) in &self.candidates {
            room[usize::from(*node)] = cap(texts.len(), *weight, total);
        }
        let mut firsts: Vec<(Score, usize)> =
            heads.iter().enumerate().filter_map(|(at, (_, best))| Some(((*best)?, at))).collect();
        firsts.sort_unstable();
        for (_, at) in firsts {
            let line = &mut lines[at];
            let known = &line.head[..self.candidates.len().min(HEAD)];
            let free = |node: &&u16| room[usize::from(**node)] > 0;
            let found = match known.iter().find(free) {
                None if self.candidates.len() > HEAD => {
                    line.whole.get_or_init(|| self.order(nodes, &texts[at]).into()).iter().find(free)
                }
                found => found,
            };
            line.base = *found.unwrap_or(&line.base);
            if let Some(room) = room.get_mut(usize::from(line.base)) {
                *room = room.saturating_sub(1);
            }
        }
        lines
    }
}

/// What an earlier ranking knows of a pool that has nearly the same candidates.
struct Known<'a> {
    earlier: &'a Ranking,
    /// The pool's VIPs in it.
    range: std::ops::Range<usize>,
    /// The index that each of its nodes has now; nobody where it is no candidate any more, or weighs something else.
    now: Vec<u16>,
    /// What each candidate weighs, by its index now.
    weights: Vec<u8>,
    /// Those who are new.
    added: Vec<(u16, u8)>,
    addresses: &'a [Vip],
}

impl<'a> Known<'a> {
    fn new(pool: &RankedPool, nodes: &[NodeName], earlier: &'a Ranking, addresses: &'a [Vip]) -> Option<Self> {
        let at = earlier.pools.binary_search_by(|old| old.name.cmp(&pool.name)).ok()?;
        let old = &earlier.pools[at];
        // `prefer` and `together` put others in line, and scores under weights are no hashes alone.
        let plain = |pool: &RankedPool| !pool.together && pool.prefer.is_empty();
        if !plain(old) || !plain(pool) || old.weighted != pool.weighted {
            return None;
        }
        let mut now = vec![NOBODY; earlier.nodes.len()];
        let mut weights = vec![0; nodes.len()];
        let mut added = Vec::new();
        for (node, weight) in &pool.candidates {
            weights[usize::from(*node)] = *weight;
            let before = earlier.nodes.binary_search(&nodes[usize::from(*node)]).ok();
            let before = before.and_then(|at| old.candidates.binary_search_by_key(&at, |it| usize::from(it.0)).ok());
            match before.map(|at| old.candidates[at]) {
                Some((was, same)) if same == *weight || !pool.weighted => now[usize::from(was)] = *node,
                _ => added.push((*node, *weight)),
            }
        }
        let range = old.vips.clone();
        (added.len() <= ADDED).then_some(Self { earlier, range, now, weights, added, addresses })
    }

    /// Puts those into `few` who can come first for a VIP of the pool; false where it is not known.
    ///
    /// Who came first before still does, but for those who are new: whoever came behind these comes behind them now,
    /// as long as none of them is gone.
    fn candidates(&self, vip: usize, few: &mut Vec<(u16, u8)>) -> bool {
        let before = self.addresses.get(vip).and_then(|vip| self.earlier.index_of(*vip));
        let Some(line) = before.filter(|at| self.range.contains(at)).map(|at| &self.earlier.lines[at]) else {
            return false;
        };
        few.clear();
        for node in line.head.iter().take_while(|node| **node != NOBODY) {
            match self.now[usize::from(*node)] {
                NOBODY => return false,
                now => few.push((now, self.weights[usize::from(now)])),
            }
        }
        few.extend(&self.added);
        true
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use proptest::prelude::*;

    use super::*;
    use crate::placement::fixture::{cluster, pool};

    /// Nodes by number with their weights (0 is a witness, nothing is not declared), and addresses of a pool.
    fn desired(nodes: &[Option<u8>], addresses: &Range<u32>, rendezvous: bool) -> Desired {
        let named = (0..).zip(nodes).filter_map(|(at, weight): (u32, _)| Some(format!("n{at}={}", (*weight)?)));
        let names: Vec<String> = named.collect();
        let mut desired = cluster(&names.iter().map(String::as_str).collect::<Vec<_>>());
        if rendezvous {
            desired.cluster.placement = PlacementMode::Rendezvous;
        }
        let first = std::net::Ipv4Addr::from(u32::from(std::net::Ipv4Addr::new(10, 0, 0, 0)) + addresses.start);
        desired.pools.insert("web".parse().unwrap(), pool(&first.to_string(), addresses.end - addresses.start));
        desired
    }

    fn lines(ranking: &Ranking) -> Vec<(Option<NodeName>, Vec<u16>)> {
        (0..ranking.vips().len()).map(|at| (ranking.base(at).cloned(), ranking.succession(at).collect())).collect()
    }

    fn nodes() -> impl Strategy<Value = Vec<Option<u8>>> {
        let weight = prop_oneof![6 => Just(Some(1)), 1 => Just(Some(3)), 1 => Just(Some(0)), 2 => Just(None)];
        proptest::collection::vec(weight, 1..24)
    }

    proptest! {
        #[test]
        fn an_earlier_ranking_changes_nothing_of_what_comes_out(
            before in nodes(),
            after in nodes(),
            alike: bool,
            from in 0u32..20,
            count in 1u32..40,
            rendezvous: bool,
        ) {
            // Half of the time a node comes and another goes, as in a change that somebody makes.
            let after = if alike {
                let mut after_before = before.clone();
                if let (Some(first), Some(given)) = (after_before.first_mut(), after.first()) {
                    *first = *given;
                }
                after_before.push(after.last().copied().flatten());
                after_before
            } else {
                after
            };
            let earlier = Ranking::new(&desired(&before, &(0..30), rendezvous));
            let wanted = desired(&after, &(from..from + count), rendezvous);
            prop_assert_eq!(lines(&Ranking::after(&wanted, Some(&earlier))), lines(&Ranking::new(&wanted)));
        }
    }
}
