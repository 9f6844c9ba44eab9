//! Memory that is used for one tensor after another.

use std::cmp::Reverse;
use std::ops::Range;

use crate::memory::Memory;
use crate::tensor::{Shape, Tensor};

/// Maximum ratio between the memory that a tensor takes over and the memory it needs.
const LARGER: usize = 8;

/// A pool of reusable memory.
#[derive(Debug, Default)]
pub struct Arena {
    free: Vec<Memory>,
    plan: Option<Plan>,
    /// The tensors taken since the plan was set.
    taken: usize,
}

impl Arena {
    /// Takes a tensor with a zero border. Its interior, including padding channels, is unspecified: a kernel has to
    /// write it.
    ///
    /// # Panics
    /// If the shape exceeds the address space.
    pub fn take(&mut self, shape: Shape) -> Tensor {
        let sizes = self.sizes(shape.checked_len());
        if let Some(memory) = self.find(&sizes) {
            let mut tensor = Tensor::from_memory(shape, memory);
            tensor.clear_border();
            tensor
        } else {
            Tensor::from_memory(shape, Memory::zeros_in_parallel(sizes.start))
        }
    }

    /// Returns a tensor's memory to the pool.
    pub fn give(&mut self, tensor: Tensor) {
        self.give_floats(tensor.into_memory());
    }

    /// Takes at least `len` floats with unspecified contents.
    ///
    /// # Panics
    /// If they exceed the address space.
    pub(crate) fn take_floats(&mut self, len: usize) -> Memory {
        let sizes = self.sizes(len);
        self.find(&sizes)
            .unwrap_or_else(|| Memory::zeros_in_parallel(sizes.start))
    }

    /// Returns the floats to the pool.
    pub(crate) fn give_floats(&mut self, floats: Memory) {
        self.free.push(floats);
    }

    /// Sets or, with `None`, removes the plan for the tensors that are taken from now on. All memory must be in the
    /// pool. If the pool is not enough for the plan, all of its memory is returned to the system; otherwise, what the
    /// plan does not need.
    ///
    /// Without a plan, a tensor gets the smallest memory that it fits into, which may be what a larger tensor needs
    /// later.
    pub fn follow(&mut self, plan: Option<Plan>) {
        self.taken = 0;
        self.plan = plan.map(|mut plan| {
            self.free.sort_by_key(|memory| Reverse(memory.len()));
            let pairs = || std::iter::zip(&self.free, &plan.pieces);
            let is_enough = self.free.len() >= plan.pieces.len()
                && pairs().all(|(memory, &piece)| memory.len() >= piece);
            if is_enough {
                // Memory for an image of another size will do: fresh memory costs more than arithmetic.
                plan.pieces = pairs().map(|(memory, _)| memory.len()).collect();
                self.free.truncate(plan.pieces.len());
            } else {
                self.free.clear();
            }
            plan
        });
    }

    /// The sizes of memory that the next tensor, of `len` floats, may take over, beginning with the size of fresh memory.
    fn sizes(&mut self, len: usize) -> Range<usize> {
        self.taken += 1;
        let planned = self
            .plan
            .as_ref()
            .and_then(|plan| plan.piece(self.taken - 1));
        match planned {
            Some(size) if size >= len => size..size + 1,
            // The limit is generous: images in one folder may differ severalfold in size.
            _ => len..len.saturating_mul(LARGER).saturating_add(1),
        }
    }

    /// The smallest free memory of one of these sizes.
    fn find(&mut self, sizes: &Range<usize>) -> Option<Memory> {
        let fits = self.free.iter().enumerate();
        let fits = fits.filter(|(_, memory)| sizes.contains(&memory.len()));
        let (i, _) = fits.min_by_key(|(_, memory)| memory.len())?;
        Some(self.free.swap_remove(i))
    }

    /// Bytes of all memory in the pool.
    pub fn bytes(&self) -> usize {
        let floats: usize = self.free.iter().map(Memory::len).sum();
        floats * size_of::<f32>()
    }

    /// Returns all memory to the system, for when images of a very different size follow.
    pub fn clear(&mut self) {
        self.free.clear();
    }
}

/// Which tensors share memory, of those that are taken in a known order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The floats of each piece of memory, in descending order.
    pieces: Vec<usize>,
    /// The piece of each tensor.
    tensors: Vec<usize>,
}

impl Plan {
    /// Bytes of all pieces.
    pub fn bytes(&self) -> usize {
        self.pieces.iter().sum::<usize>() * size_of::<f32>()
    }

    /// The floats of the memory for the `k`-th tensor taken.
    fn piece(&self, k: usize) -> Option<usize> {
        self.tensors.get(k).map(|&piece| self.pieces[piece])
    }
}

/// Makes a [`Plan`]: takes and gives what will be taken from and given to an arena, without any memory.
#[derive(Debug, Default)]
pub struct Planner {
    /// The floats of each tensor, and when it is in use.
    tensors: Vec<(usize, Range<usize>)>,
    now: usize,
}

impl Planner {
    /// Notes that a tensor is taken; returns its number, for [`Self::give`].
    pub fn take(&mut self, shape: Shape) -> usize {
        self.tensors
            .push((shape.checked_len(), self.now..usize::MAX));
        self.now += 1;
        self.tensors.len() - 1
    }

    /// Notes that a tensor is given back.
    pub fn give(&mut self, tensor: usize) {
        self.tensors[tensor].1.end = self.now;
        self.now += 1;
    }

    /// The plan: from the largest to the smallest, each tensor shares the smallest piece of memory that is free whenever
    /// it is in use, or gets one of its own.
    pub fn finish(self) -> Plan {
        let mut order: Vec<usize> = (0..self.tensors.len()).collect();
        order.sort_by_key(|&tensor| Reverse(self.tensors[tensor].0));
        let mut pieces = vec![];
        let mut uses: Vec<Vec<&Range<usize>>> = vec![];
        let mut tensors = vec![0; order.len()];
        for tensor in order {
            let (floats, when) = &self.tensors[tensor];
            let is_free = |piece: &Vec<&Range<usize>>| {
                piece
                    .iter()
                    .all(|other| other.end <= when.start || when.end <= other.start)
            };
            let piece = uses.iter().rposition(is_free).unwrap_or_else(|| {
                pieces.push(*floats);
                uses.push(vec![]);
                pieces.len() - 1
            });
            uses[piece].push(when);
            tensors[tensor] = piece;
        }
        Plan { pieces, tensors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(h: usize) -> Shape {
        Shape {
            n: 1,
            h,
            w: 6,
            c: 8,
        }
    }

    fn bytes(heights: &[usize]) -> usize {
        let floats = heights.iter().map(|&h| shape(h).checked_len());
        4 * floats.sum::<usize>()
    }

    /// Two small tensors, then a large one, which is taken while one of the small ones is still in use.
    fn plan(small: usize, large: usize) -> Plan {
        let mut planner = Planner::default();
        let [first, second] = [(); 2].map(|()| planner.take(shape(small)));
        planner.give(first);
        let third = planner.take(shape(large));
        planner.give(second);
        planner.give(third);
        planner.finish()
    }

    /// Takes and gives back the tensors of [`plan`], in the same order.
    fn run(arena: &mut Arena, small: usize, large: usize) {
        let [first, second] = [(); 2].map(|()| arena.take(shape(small)));
        arena.give(first);
        let third = arena.take(shape(large));
        arena.give(second);
        arena.give(third);
    }

    #[test]
    fn planned_memory_is_all_that_is_taken() {
        let mut arena = Arena::default();
        for (small, large, want) in [
            (50, 200, [200, 50]),
            (50, 200, [200, 50]),
            // The memory is enough for these sizes, and again for the first ones.
            (20, 100, [200, 50]),
            (50, 200, [200, 50]),
            // One piece is too small.
            (60, 100, [100, 60]),
        ] {
            let plan = plan(small, large);
            assert_eq!(plan.bytes(), bytes(&[small, large]));
            arena.follow(Some(plan));
            run(&mut arena, small, large);
            assert_eq!(arena.bytes(), bytes(&want));
        }
        // Without a plan, the first small tensor finds the smaller piece, the second takes the other, and the large one
        // gets fresh memory.
        arena.follow(None);
        run(&mut arena, 60, 100);
        assert_eq!(arena.bytes(), bytes(&[100, 100, 60]));
    }

    #[test]
    fn a_tensor_beyond_the_plan_gets_memory() {
        let mut arena = Arena::default();
        arena.follow(Some(plan(50, 200)));
        for h in [90, 50, 200, 7] {
            let tensor = arena.take(shape(h));
            assert_eq!(tensor.shape(), shape(h));
            arena.give(tensor);
        }
    }

    #[test]
    fn memory_used_again_has_a_clean_border() {
        let mut arena = Arena::default();
        let mut first = Tensor::zeros(Shape {
            n: 2,
            h: 7,
            w: 5,
            c: 9,
        });
        first.fill_from(&vec![1.0; 2 * 7 * 5 * 9]);
        arena.give(first);
        let mut second = arena.take(Shape {
            n: 1,
            h: 9,
            w: 6,
            c: 11,
        });
        second.fill_from(&vec![1.0; 9 * 6 * 11]);
        assert_eq!(second.as_slice().iter().sum::<f32>(), 9.0 * 6.0 * 11.0);
    }
}
