//! A run of elements in a file, and the tensors that are views of it. Shape, strides and offset are claims of the
//! file, so they are checked against the available bytes before anything is allocated.

use super::{DType, Tensor};

/// Elements of one type, end to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub dtype: DType,
    pub bytes: &'a [u8],
}

impl Storage<'_> {
    /// The tensor whose element `[i, j, …]` is `offset + i · strides[0] + j · strides[1] + …`.
    pub fn tensor(
        &self,
        offset: usize,
        shape: &[usize],
        strides: &[usize],
        budget: &mut Budget,
    ) -> Result<Tensor, String> {
        if strides.len() != shape.len() {
            return Err(format!(
                "expected one stride per dimension, found shape {shape:?} with strides {strides:?}"
            ));
        }
        let len = budget.spend(shape, self.dtype)?;
        let held = self.bytes.len() / self.dtype.size();
        let end = shape
            .iter()
            .zip(strides)
            .try_fold(offset, |end, (&n, &stride)| {
                end.checked_add(n.saturating_sub(1).checked_mul(stride)?)
            });
        if len > 0 && end.is_none_or(|end| end >= held) {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from element {offset} extends beyond \
                 the {held} stored elements"
            ));
        }

        let mut index = vec![0; shape.len()];
        let mut at = offset;
        let mut data = Vec::with_capacity(len);
        for _ in 0..len {
            data.push(self.dtype.get(self.bytes, at));
            // One step of an odometer: the last dimension that is not at its end advances, and those after it return
            // to their start.
            for d in (0..shape.len()).rev() {
                index[d] += 1;
                if index[d] < shape[d] {
                    at += strides[d];
                    break;
                }
                at -= strides[d] * (shape[d] - 1);
                index[d] = 0;
            }
        }
        Ok(Tensor {
            shape: shape.to_vec(),
            data,
        })
    }
}

/// How many more bytes of tensors a file may yield: in total, as many as it is long. Without this limit, many views
/// of one storage would let a small file fill the memory.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    /// For a file of `bytes` bytes.
    pub fn new(bytes: usize) -> Self {
        Self(bytes)
    }

    /// Deducts a tensor's bytes, and returns its number of elements.
    pub fn spend(&mut self, shape: &[usize], dtype: DType) -> Result<usize, String> {
        let left = (shape.iter())
            .try_fold(dtype.size(), |bytes, &n| bytes.checked_mul(n))
            .and_then(|bytes| self.0.checked_sub(bytes));
        match left {
            Some(left) => {
                self.0 = left;
                Ok(shape.iter().product())
            }
            None => Err(format!("shape {shape:?} is larger than the file")),
        }
    }
}

/// Strides of a row-major tensor.
pub(super) fn row_major(shape: &[usize]) -> Vec<usize> {
    let mut strides = column_major(&shape.iter().rev().copied().collect::<Vec<_>>());
    strides.reverse();
    strides
}

/// Strides of a column-major tensor.
pub(super) fn column_major(shape: &[usize]) -> Vec<usize> {
    shape
        .iter()
        .scan(1_usize, |stride, &n| {
            let this = *stride;
            *stride = stride.saturating_mul(n);
            Some(this)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(offset: usize, shape: &[usize], strides: &[usize]) -> Result<Tensor, String> {
        let bytes: Vec<u8> = (0..24u8).flat_map(|i| f32::from(i).to_le_bytes()).collect();
        let storage = Storage {
            dtype: DType::F32,
            bytes: &bytes,
        };
        storage.tensor(offset, shape, strides, &mut Budget::new(bytes.len()))
    }

    #[test]
    fn strides_say_where_each_element_is() {
        assert_eq!(row_major(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(column_major(&[2, 3, 4]), [1, 2, 6]);
        let whole = tensor(0, &[2, 3, 4], &[12, 4, 1]).unwrap();
        assert_eq!(whole.data[23], 23.0);
        let transposed = tensor(1, &[2, 3], &[1, 4]).unwrap();
        assert_eq!(transposed.data, [1.0, 5.0, 9.0, 2.0, 6.0, 10.0]);
        assert_eq!(tensor(23, &[], &[]).unwrap().data, [23.0]);
        assert_eq!(
            tensor(5, &[3, 2], &[0, 1]).unwrap().data,
            [5., 6., 5., 6., 5., 6.]
        );
        assert!(tensor(99, &[0, 5], &[5, 1]).unwrap().data.is_empty());
    }

    #[test]
    fn a_view_beyond_the_storage_or_larger_than_the_file_is_an_error() {
        assert!(tensor(1, &[24], &[1]).is_err());
        assert!(tensor(0, &[2, 13], &[12, 1]).is_err());
        assert!(tensor(0, &[2, 2], &[usize::MAX, 1]).is_err());
        assert!(tensor(usize::MAX, &[2], &[1]).is_err());
        assert!(tensor(0, &[1 << 40], &[0]).is_err());
        assert!(tensor(0, &[usize::MAX, usize::MAX], &[0, 0]).is_err());
        assert!(tensor(0, &[2], &[1, 1]).is_err());
    }

    #[test]
    fn the_budget_is_of_the_whole_file() {
        let mut budget = Budget::new(40);
        assert_eq!(budget.spend(&[2, 3], DType::F32), Ok(6));
        assert_eq!(budget.spend(&[8], DType::F16), Ok(8));
        assert!(budget.spend(&[], DType::F16).is_err());
    }
}
