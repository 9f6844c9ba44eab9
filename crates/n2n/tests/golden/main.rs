//! The engine and the evaluation against `PyTorch`, `NumPy` and `OpenCV`: the fixtures of the
//! repository's `tests/golden`, whose README says what each one holds and how it was made.

mod evaluation;
mod fixture;
mod generator;
mod network;
