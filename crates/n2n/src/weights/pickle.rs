//! A reader for the small subset of pickles found in tensor files.
//!
//! A pickle is a program for a small stack machine, and Python's own reader lets it import and call anything. This
//! reader does not: it knows only the names in [`GLOBALS`], calling one of them only records the call as data, and
//! any other name or instruction is an error that names it. A file can therefore describe tensors and do nothing
//! else.
//!
//! Values are stored in one vector and refer to each other by index. Values nested a million deep, or in a cycle, are
//! therefore never built, dropped or traversed recursively, and need no depth limit. Memory is limited by the number
//! of instructions: each creates at most one value of fixed size, and strings stay in the file's buffer.
//!
//! The instructions follow Python's `pickletools.py`. Protocols 2 to 5 are supported as far as tensors need them;
//! Paddle writes 2 to 4, PyTorch 2 by default, and nothing writes 0 or 1.

use std::collections::HashMap;

use super::DType;

/// A fully read pickle.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    /// The root value.
    pub root: Id,
    /// The index of the byte after its end.
    pub end: usize,
}

/// The index of a value in its [`Pickle`].
pub(super) type Id = usize;

/// The values that occur in tensor files.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    /// 128 bits, for PyTorch's magic number.
    Int(i128),
    /// Occurs in the state of optimizers; its value is not needed here.
    Float,
    Str(&'a str),
    Bytes(&'a [u8]),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    /// Keys and values in order. Also stands for an `OrderedDict`.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// A call that Python would execute; `arguments` is a tuple.
    Call {
        function: Global,
        arguments: Id,
        state: Option<Id>,
    },
    /// A reference to data outside the pickle.
    Persistent(Id),
}

/// The names that a pickle may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    Tuple,
    /// How Python 3 writes bytes in protocol 2.
    Encode,
    TorchTensor,
    TorchParameter,
    TorchStorage(DType),
    NumpyReconstruct,
    NumpyArray,
    NumpyDType,
}

const GLOBALS: &[(&str, &str, Global)] = &[
    ("collections", "OrderedDict", Global::OrderedDict),
    ("builtins", "tuple", Global::Tuple),
    ("__builtin__", "tuple", Global::Tuple),
    ("_codecs", "encode", Global::Encode),
    ("torch._utils", "_rebuild_tensor_v2", Global::TorchTensor),
    ("torch._utils", "_rebuild_parameter", Global::TorchParameter),
    ("torch", "HalfStorage", Global::TorchStorage(DType::F16)),
    (
        "torch",
        "BFloat16Storage",
        Global::TorchStorage(DType::BF16),
    ),
    ("torch", "FloatStorage", Global::TorchStorage(DType::F32)),
    ("torch", "DoubleStorage", Global::TorchStorage(DType::F64)),
    (
        "numpy.core.multiarray",
        "_reconstruct",
        Global::NumpyReconstruct,
    ),
    // The same names since NumPy 2.
    (
        "numpy._core.multiarray",
        "_reconstruct",
        Global::NumpyReconstruct,
    ),
    ("numpy", "ndarray", Global::NumpyArray),
    ("numpy", "dtype", Global::NumpyDType),
];

/// Far more instructions than a training checkpoint of the network has (about 7000), and few enough that their values
/// fit in some 100 MB.
const MAX_INSTRUCTIONS: usize = 1 << 20;
/// More dimensions than any tensor of a network has; without a limit, many tensors could share one endless shape.
const MAX_DIMENSIONS: usize = 8;

/// Reads the pickle at the start of `bytes`.
pub(super) fn parse(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: vec![],
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
    };
    for _ in 0..MAX_INSTRUCTIONS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle {
                values: machine.values,
                root,
                end: machine.at,
            });
        }
    }
    Err(format!(
        "the pickle has more than {MAX_INSTRUCTIONS} instructions"
    ))
}

impl<'a> Pickle<'a> {
    pub fn get(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }

    /// All values, in the order of creation.
    pub fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    pub fn tuple(&self, id: Id) -> Result<&[Id], String> {
        match self.get(id) {
            Value::Tuple(items) => Ok(items),
            other => Err(other.instead_of("a tuple")),
        }
    }

    pub fn str(&self, id: Id) -> Result<&'a str, String> {
        match self.get(id) {
            Value::Str(text) => Ok(text),
            other => Err(other.instead_of("a string")),
        }
    }

    /// Interprets a value as a number of elements or an index.
    pub fn size(&self, id: Id) -> Result<usize, String> {
        match self.get(id) {
            Value::Int(number) => {
                usize::try_from(*number).map_err(|_| format!("expected a size, found {number}"))
            }
            other => Err(other.instead_of("a size")),
        }
    }

    /// Interprets a value as a shape or strides.
    pub fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        let items = self.tuple(id)?;
        if items.len() > MAX_DIMENSIONS {
            return Err(format!(
                "expected at most {MAX_DIMENSIONS} dimensions, found {}",
                items.len()
            ));
        }
        items.iter().map(|&item| self.size(item)).collect()
    }
}

impl Value<'_> {
    /// The error message for finding this value where `expected` was required.
    pub fn instead_of(&self, expected: &str) -> String {
        format!("expected {expected}, found {}", self.kind())
    }

    fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a bool",
            Self::Int(_) => "an int",
            Self::Float => "a float",
            Self::Str(_) => "a string",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "a list",
            Self::Tuple(_) => "a tuple",
            Self::Dict(_) => "a dict",
            Self::Global(global)
            | Self::Call {
                function: global, ..
            } => global.name(),
            Self::Persistent(_) => "a reference to a storage",
        }
    }
}

impl Global {
    fn name(self) -> &'static str {
        GLOBALS
            .iter()
            .find(|(.., global)| *global == self)
            .map_or("", |(_, name, _)| name)
    }
}

/// The stack machine.
struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// The stack lengths at the open marks.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// Executes one instruction; returns the result at the last one.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let at = self.at;
        match self.byte()? {
            // PROTO, FRAME, STOP
            0x80 => match self.byte()? {
                2..=5 => {}
                protocol => {
                    return Err(format!("expected pickle protocol 2 to 5, found {protocol}"));
                }
            },
            0x95 => {
                self.take(8)?;
            }
            b'.' => return self.pop().map(Some),
            // NONE, NEWTRUE, NEWFALSE, BININT, BININT1, BININT2, LONG1, BINFLOAT
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = self.byte()?;
                self.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.push(Value::Int(number.into()));
            }
            0x8a => {
                let number = self.long()?;
                self.push(Value::Int(number));
            }
            b'G' => {
                self.take(8)?;
                self.push(Value::Float);
            }
            // SHORT_BINUNICODE, BINUNICODE, SHORT_BINBYTES, BINBYTES
            0x8c => {
                let len = self.byte()?.into();
                self.text(len)?;
            }
            b'X' => {
                let len = self.length()?;
                self.text(len)?;
            }
            b'C' => {
                let len = self.byte()?.into();
                let bytes = self.take(len)?;
                self.push(Value::Bytes(bytes));
            }
            b'B' => {
                let len = self.length()?;
                let bytes = self.take(len)?;
                self.push(Value::Bytes(bytes));
            }
            opcode => self.compound(opcode, at)?,
        }
        Ok(None)
    }

    /// The instructions that combine existing values.
    fn compound(&mut self, opcode: u8, at: usize) -> Result<(), String> {
        match opcode {
            // MARK, EMPTY_LIST, EMPTY_TUPLE, EMPTY_DICT
            b'(' => self.marks.push(self.stack.len()),
            b']' => self.push(Value::List(vec![])),
            b')' => self.push(Value::Tuple(vec![])),
            b'}' => self.push(Value::Dict(vec![])),
            // TUPLE, TUPLE1 to TUPLE3
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            0x85..=0x87 => {
                let mut items = vec![];
                for _ in 0..=opcode - 0x85 {
                    items.push(self.pop()?);
                }
                items.reverse();
                self.push(Value::Tuple(items));
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            // GLOBAL, STACK_GLOBAL, REDUCE, BUILD, BINPERSID
            b'c' => {
                let module = self.line()?;
                let name = self.line()?;
                self.global(module, name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (&self.values[module], &self.values[name]) {
                    (&Value::Str(module), &Value::Str(name)) => self.global(module, name)?,
                    _ => return Err(format!("a global at byte {at} whose name is not a string")),
                }
            }
            b'R' => self.reduce(at)?,
            b'b' => self.build(at)?,
            b'Q' => {
                let id = self.pop()?;
                self.push(Value::Persistent(id));
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let key = self.byte()?.into();
                self.memoize(key)?;
            }
            b'r' => {
                let key = self.length()?;
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len())?,
            b'h' => {
                let key = self.byte()?.into();
                self.recall(key)?;
            }
            b'j' => {
                let key = self.length()?;
                self.recall(key)?;
            }
            _ => {
                return Err(format!(
                    "the pickle instruction {} at byte {at} is not allowed in a tensor file",
                    instruction(opcode)
                ));
            }
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Result<(), String> {
        let known = GLOBALS
            .iter()
            .find(|(known_module, known_name, _)| (*known_module, *known_name) == (module, name));
        match known {
            Some(&(.., global)) => {
                self.push(Value::Global(global));
                Ok(())
            }
            None => Err(format!(
                "the pickle refers to `{}.{}`, which is not allowed in a file of float tensors; \
                 nothing was executed",
                excerpt(module),
                excerpt(name)
            )),
        }
    }

    fn reduce(&mut self, at: usize) -> Result<(), String> {
        let arguments = self.pop()?;
        let callee = self.pop()?;
        let Value::Tuple(items) = &self.values[arguments] else {
            return Err(self.values[arguments].instead_of("a tuple of arguments"));
        };
        match (&self.values[callee], items.as_slice()) {
            (Value::Global(Global::OrderedDict), []) => self.push(Value::Dict(vec![])),
            (Value::Global(Global::Tuple), &[tuple]) => self.stack.push(tuple),
            (
                &Value::Global(
                    function @ (Global::Encode
                    | Global::TorchTensor
                    | Global::TorchParameter
                    | Global::NumpyReconstruct
                    | Global::NumpyDType),
                ),
                _,
            ) => self.push(Value::Call {
                function,
                arguments,
                state: None,
            }),
            (other, items) => {
                return Err(format!(
                    "the pickle calls {} with {} arguments at byte {at}, which is not allowed in \
                     a tensor file",
                    other.kind(),
                    items.len()
                ));
            }
        }
        Ok(())
    }

    fn build(&mut self, at: usize) -> Result<(), String> {
        let new_state = self.pop()?;
        let object = self.top()?;
        match &mut self.values[object] {
            // `_metadata`, the versions of PyTorch's modules.
            Value::Dict(_) => Ok(()),
            Value::Call {
                function: Global::NumpyReconstruct | Global::NumpyDType,
                state,
                ..
            } => {
                *state = Some(new_state);
                Ok(())
            }
            other => Err(format!(
                "the pickle sets the state of {} at byte {at}, which is not allowed in a tensor \
                 file",
                other.kind()
            )),
        }
    }

    fn append(&mut self, new: Vec<Id>) -> Result<(), String> {
        let list = self.top()?;
        match &mut self.values[list] {
            Value::List(items) => items.extend(new),
            other => return Err(other.instead_of("a list to append to")),
        }
        Ok(())
    }

    fn set_items(&mut self, new: &[Id]) -> Result<(), String> {
        let (pairs, []) = new.as_chunks() else {
            return Err("a dict with a key that has no value".into());
        };
        let dict = self.top()?;
        match &mut self.values[dict] {
            Value::Dict(items) => items.extend(pairs.iter().map(|&[key, value]| (key, value))),
            other => return Err(other.instead_of("a dict to add to")),
        }
        Ok(())
    }

    fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The top value above the last mark.
    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(&id) if self.stack.len() > floor => Ok(id),
            _ => Err(format!("the pickle's stack is empty at byte {}", self.at)),
        }
    }

    fn pop(&mut self) -> Result<Id, String> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().ok_or("the pickle lacks a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn memoize(&mut self, key: usize) -> Result<(), String> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn recall(&mut self, key: usize) -> Result<(), String> {
        let id = self.memo.get(&key);
        self.stack
            .push(*id.ok_or_else(|| format!("the pickle's memo has no entry {key}"))?);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.at..];
        let taken = rest.get(..len).ok_or_else(|| {
            format!(
                "the pickle is truncated: expected {len} bytes at byte {}, found {}",
                self.at,
                rest.len()
            )
        })?;
        self.at += len;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        Ok(self.take(N)?.try_into().expect("N bytes"))
    }

    fn byte(&mut self) -> Result<u8, String> {
        Ok(self.array::<1>()?[0])
    }

    fn length(&mut self) -> Result<usize, String> {
        Ok(u32::from_le_bytes(self.array()?) as usize)
    }

    fn text(&mut self, len: usize) -> Result<(), String> {
        let at = self.at;
        let bytes = self.take(len)?;
        let text = std::str::from_utf8(bytes)
            .map_err(|_| format!("the pickle's string at byte {at} is not UTF-8"))?;
        self.push(Value::Str(text));
        Ok(())
    }

    /// Reads text up to the end of the line.
    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let len = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(len.ok_or("the pickle is truncated within a name")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name in the pickle is not UTF-8".into())
    }

    /// Reads a little-endian two's complement integer whose length in bytes is given by its first byte.
    fn long(&mut self) -> Result<i128, String> {
        let len = self.byte()?;
        let bytes = self.take(len.into())?;
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut number = [if negative { 0xff } else { 0 }; 16];
        number
            .get_mut(..bytes.len())
            .ok_or_else(|| format!("the pickle has an integer of {len} bytes"))?
            .copy_from_slice(bytes);
        Ok(i128::from_le_bytes(number))
    }
}

/// The names of the instructions that a reader of the error might ask about.
fn instruction(opcode: u8) -> String {
    let name = match opcode {
        b'i' => "INST",
        b'o' => "OBJ",
        b'P' => "PERSID",
        0x81 => "NEWOBJ",
        0x82..=0x84 => "EXT",
        0x92 => "NEWOBJ_EX",
        0x96 => "BYTEARRAY8",
        0x97 => "NEXT_BUFFER",
        _ => return format!("{opcode:#04x}"),
    };
    format!("{name} ({opcode:#04x})")
}

/// Enough of a name from a file to recognize it, safe to print.
fn excerpt(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(bytes: &[u8]) -> String {
        parse(bytes).expect_err("must be refused")
    }

    #[test]
    fn a_name_outside_the_list_is_refused_by_name() {
        assert!(error(b"\x80\x02cos\nsystem\nX\x04\0\0\0true\x85R.").contains("`os.system`"));
        assert!(error(b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93.").contains("`builtins.eval`"));
        assert!(error(b"\x80\x02ctorch\nLongStorage\n.").contains("`torch.LongStorage`"));
        assert!(error(b"\x80\x02c\x1b[31m\nx\n.").contains("`\\u{1b}[31m.x`"));
    }

    #[test]
    fn instructions_that_make_objects_are_refused_by_name() {
        assert!(error(b"\x80\x02(ios\nsystem\n.").contains("INST"));
        assert!(error(b"\x80\x02)\x81.").contains("NEWOBJ"));
        assert!(error(b"\x80\x02\x82\x01.").contains("EXT"));
        assert!(error(b"\x80\x02\xfe.").contains("0xfe"));
        assert!(error(b"\x80\x01N.").contains("protocol"));
    }

    #[test]
    fn only_functions_of_the_list_are_called_and_only_theirs_take_state() {
        assert!(error(b"\x80\x02ctorch\nFloatStorage\n)R.").contains("FloatStorage"));
        assert!(error(b"\x80\x02ccollections\nOrderedDict\n(]tR.").contains("OrderedDict"));
        assert!(error(b"\x80\x02N)R.").contains("None"));
        assert!(error(b"\x80\x02ccollections\nOrderedDict\nNR.").contains("arguments"));
        assert!(error(b"\x80\x02)Nb.").contains("a tuple"));
    }

    #[test]
    fn a_stack_that_does_not_add_up_is_an_error() {
        for bytes in [
            b"\x80\x02.".as_slice(),
            b"\x80\x02t.",
            b"\x80\x02N(.",
            b"\x80\x02}N(s.",
            b"\x80\x02}(Nu.",
            b"\x80\x02NNa.",
            b"\x80\x02h\0.",
            b"\x80\x02q\0.",
            b"\x80\x02N\x93.",
            b"\x80\x02NN\x93.",
        ] {
            error(bytes);
        }
    }

    #[test]
    fn integers_of_every_width_keep_their_sign() {
        for (bytes, number) in [
            (b"\x80\x02K\xff.".as_slice(), 255),
            (b"\x80\x02M\x01\xff.", 0xff01),
            (b"\x80\x02J\xfe\xff\xff\xff.", -2),
            (b"\x80\x02\x8a\0.", 0),
            (b"\x80\x02\x8a\x02\x00\x80.", -32768),
            (
                b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.",
                0x1950_a86a_20f9_469c_fc6c,
            ),
        ] {
            let pickle = parse(bytes).unwrap();
            assert!(matches!(pickle.get(pickle.root), Value::Int(n) if *n == number));
            assert_eq!(pickle.end, bytes.len());
        }
        error(b"\x80\x02\x8a\x1112345678901234567.");
    }

    #[test]
    fn depth_circles_and_claimed_lengths_cost_nothing() {
        let mut deep = b"\x80\x02)".to_vec();
        deep.resize(1_000_000, 0x85);
        deep.push(b'.');
        assert!(parse(&deep).is_ok());
        assert!(
            parse(b"\x80\x02]q\0h\0a.").is_ok(),
            "a list that holds itself"
        );
        assert!(error(b"\x80\x02X\xff\xff\xff\xffa.").contains("truncated"));
        assert!(error(b"\x80\x02r\xff\xff\xff\xff.").contains("empty"));
        let mut long = b"\x80\x02".to_vec();
        long.resize(MAX_INSTRUCTIONS + 2, b'}');
        assert!(error(&long).contains("instructions"));
    }
}
