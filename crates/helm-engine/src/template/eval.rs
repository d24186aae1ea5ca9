//! Executes parsed templates.

use std::{cell::RefCell, rc::Rc};

use gotmpl::parse::{
    BranchNode, CommandNode, Expr, ListNode, Node, Number, PipeNode, Pos, SmolStr,
};

use super::{
    budget::Budget,
    functions,
    memo::Memo,
    print,
    set::{Set, Template},
    value::Value,
};

/// Why a template stopped.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// Whether the chart itself refused, by `fail` or `required`.
    pub(crate) refused: bool,
    pub(crate) place: Option<Place>,
    pub(crate) expression: String,
    pub(crate) value: Option<String>,
    pub(crate) via: Vec<String>,
    /// Set between leaving a template and naming the place that called it.
    crossing: bool,
}

/// A place in a template's source.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) file: Rc<str>,
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl From<String> for Failure {
    fn from(reason: String) -> Self {
        Self {
            reason,
            ..Self::default()
        }
    }
}

impl From<&str> for Failure {
    fn from(reason: &str) -> Self {
        reason.to_owned().into()
    }
}

impl Failure {
    pub(crate) fn refused(reason: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            refused: true,
            ..Self::default()
        }
    }
}

pub(super) type Outcome<T = Value> = Result<T, Failure>;

/// What lies outside a rendering; without it the functions that need it fail.
#[derive(Default)]
pub(crate) struct Outside<'o> {
    /// Answers `lookup`; without it every answer is empty, as in `helm template`.
    #[expect(clippy::type_complexity, reason = "spelled out once, here")]
    pub(crate) lookup:
        Option<&'o dyn Fn(&str, &str, &str, &str) -> Result<serde_json::Value, String>>,
    /// What `now` answers, in seconds since 1970.
    pub(crate) now: Option<i64>,
    /// Whether `randAlphaNum`, `genCA` and the like may be called.
    pub(crate) random: bool,
}

/// Executes templates; one per rendering.
pub(crate) struct Engine<'o> {
    pub(crate) outside: &'o Outside<'o>,
    pub(super) budget: Budget,
    pub(crate) memo: RefCell<Memo>,
}

impl<'o> Engine<'o> {
    pub(crate) fn new(outside: &'o Outside<'o>) -> Self {
        Self {
            outside,
            budget: Budget::default(),
            memo: RefCell::default(),
        }
    }

    /// Executes a template with `dot`; the text may still hold `<no value>`.
    pub(crate) fn execute(
        &self,
        set: &Rc<Set>,
        template: &Rc<Template>,
        dot: Value,
    ) -> Outcome<String> {
        self.budget.enter()?;
        let mut run = Run {
            engine: self,
            set,
            template,
            variables: vec![("$".into(), dot.clone())],
            out: String::new(),
        };
        let result = run.list(&template.body, &dot);
        self.budget.leave();
        match result {
            Ok(_) => {
                // Functions that answer failures with nothing do not hide that one.
                self.budget.step(0)?;
                self.budget.produce(0)?;
                Ok(run.out)
            }
            Err(mut failure) => {
                failure.crossing = true;
                Err(failure)
            }
        }
    }
}

/// A function call, as the functions see it.
pub(super) struct Call<'r, 'o> {
    pub(super) engine: &'r Engine<'o>,
    pub(super) set: &'r Rc<Set>,
}

enum Flow {
    Next,
    Break,
    Continue,
}

struct Run<'r, 'o> {
    engine: &'r Engine<'o>,
    set: &'r Rc<Set>,
    template: &'r Rc<Template>,
    variables: Vec<(SmolStr, Value)>,
    out: String,
}

impl Run<'_, '_> {
    fn list(&mut self, list: &ListNode, dot: &Value) -> Outcome<Flow> {
        let outer = self.variables.len();
        self.engine.budget.enter()?;
        let mut flow = Flow::Next;
        for node in &list.nodes {
            flow = self.node(node, dot)?;
            if !matches!(flow, Flow::Next) {
                break;
            }
        }
        self.engine.budget.leave();
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Outcome<Flow> {
        self.engine.budget.step(1)?;
        match node {
            Node::List(list) => return self.list(list, dot),
            Node::Text(text) => self.put(&text.text)?,
            Node::Action(action) => {
                let value = self.pipe(&action.pipe, dot)?;
                if action.pipe.decl.is_empty() {
                    let text = print::value(&value, &self.engine.budget)
                        .map_err(|reason| self.locate(reason.into(), action.pos, &action.pipe))?;
                    self.put(&text)?;
                }
            }
            Node::If(branch) => return self.choose(branch, dot, false),
            Node::With(branch) => return self.choose(branch, dot, true),
            Node::Range(branch) => return self.range(branch, dot),
            Node::Template(call) => {
                let argument = call
                    .pipe
                    .as_ref()
                    .map_or(Ok(Value::Nil), |pipe| self.pipe(pipe, dot))?;
                let text = self
                    .call_template(&call.name, argument)
                    .map_err(|failure| {
                        self.place(failure, call.pos, format!("template {:?}", call.name), None)
                    })?;
                self.put(&text)?;
            }
            Node::Define(_) => {}
            Node::Break(_) => return Ok(Flow::Break),
            Node::Continue(_) => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn put(&mut self, text: &str) -> Outcome<()> {
        self.engine.budget.produce(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn call_template(&self, name: &str, argument: Value) -> Outcome<String> {
        let template = self
            .set
            .find(name)
            .ok_or_else(|| format!("template {name:?} not defined"))?;
        self.engine.execute(self.set, template, argument)
    }

    fn choose(&mut self, branch: &BranchNode, dot: &Value, rebind: bool) -> Outcome<Flow> {
        let outer = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let flow = if value.is_true() {
            self.list(&branch.body, if rebind { &value } else { dot })
        } else if let Some(body) = &branch.else_body {
            self.list(body, dot)
        } else {
            Ok(Flow::Next)
        };
        self.variables.truncate(outer);
        flow
    }

    fn range(&mut self, branch: &BranchNode, dot: &Value) -> Outcome<Flow> {
        let outer = self.variables.len();
        let value = self.pipe(&branch.pipe, dot)?;
        let pairs = pairs(&value, &self.engine.budget)
            .map_err(|reason| self.locate(reason.into(), branch.pos, &branch.pipe))?;
        let inner = self.variables.len();
        let mut empty = true;
        for (key, element) in pairs {
            empty = false;
            self.engine.budget.step(1)?;
            self.bind(&branch.pipe, key, &element)?;
            let flow = self.list(&branch.body, &element)?;
            self.variables.truncate(inner);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        let mut flow = Flow::Next;
        if let (true, Some(body)) = (empty, &branch.else_body) {
            flow = self.list(body, dot)?;
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn bind(&mut self, pipe: &PipeNode, key: Value, element: &Value) -> Outcome<()> {
        match (pipe.is_assign, pipe.decl.as_slice()) {
            (_, []) => {}
            (true, [only]) => self.assign(only, element.clone())?,
            (true, [first, second, ..]) => {
                self.assign(first, key)?;
                self.assign(second, element.clone())?;
            }
            (false, names) => {
                let top = self.variables.len();
                if let Some(slot) = self.variables.get_mut(top - 1) {
                    slot.1 = element.clone();
                }
                if let (true, Some(slot)) =
                    (names.len() > 1, self.variables.get_mut(top.wrapping_sub(2)))
                {
                    slot.1 = key;
                }
            }
        }
        Ok(())
    }

    fn assign(&mut self, name: &str, value: Value) -> Outcome<()> {
        self.engine.budget.pass(self.variables.len())?;
        let slot = self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| known == name);
        slot.ok_or_else(|| format!("undefined variable: {name}"))?.1 = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode, dot: &Value) -> Outcome {
        let mut value = None;
        for command in &pipe.commands {
            let result = self.command(command, dot, value);
            value = Some(
                result
                    .map_err(|failure| {
                        self.place(
                            failure,
                            command.pos,
                            print::command(command),
                            print::value_path(command),
                        )
                    })?
                    .settled(),
            );
        }
        let value = value.unwrap_or_default();
        for name in &pipe.decl {
            if pipe.is_assign {
                self.assign(name, value.clone())?;
            } else {
                self.variables.push((name.clone(), value.clone()));
            }
        }
        Ok(value)
    }

    fn command(&mut self, command: &CommandNode, dot: &Value, last: Option<Value>) -> Outcome {
        self.engine.budget.step(1)?;
        let Some((first, rest)) = command.args.split_first() else {
            return Err("empty command".into());
        };
        match first {
            Expr::Identifier(_, name) => self.function(name, rest, dot, last),
            Expr::Field(_, fields) => self.fields(dot.clone(), fields, Some((rest, last)), dot),
            Expr::Variable(_, name, fields) => {
                let value = self.variable(name)?;
                self.fields(value, fields, Some((rest, last)), dot)
            }
            Expr::Chain(_, inner, fields) => {
                let value = self.argument(inner, dot)?.settled();
                self.fields(value, fields, Some((rest, last)), dot)
            }
            Expr::Nil(_) => Err("nil is not a command".into()),
            other if rest.is_empty() && last.is_none() => self.argument(other, dot),
            other => Err(format!(
                "can't give argument to non-function {}",
                print::expression(other)
            )
            .into()),
        }
    }

    fn function(&mut self, name: &str, args: &[Expr], dot: &Value, last: Option<Value>) -> Outcome {
        if name == "and" || name == "or" {
            return self.junction(name == "or", args, dot, last);
        }
        let mut values = Vec::with_capacity(args.len() + 1);
        for arg in args {
            values.push(self.argument(arg, dot)?);
        }
        values.extend(last);
        functions::call(
            name,
            values,
            &Call {
                engine: self.engine,
                set: self.set,
            },
        )
    }

    /// `and` and `or` stop at the first argument that decides.
    fn junction(&mut self, or: bool, args: &[Expr], dot: &Value, last: Option<Value>) -> Outcome {
        if args.is_empty() && last.is_none() {
            return Err(format!(
                "wrong number of args for {}: want at least 1 got 0",
                if or { "or" } else { "and" }
            )
            .into());
        }
        let mut value = Value::Nil;
        for arg in args {
            value = self.argument(arg, dot)?;
            if value.is_true() == or {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    fn argument(&mut self, expression: &Expr, dot: &Value) -> Outcome {
        match expression {
            Expr::Dot(_) => Ok(dot.clone()),
            Expr::Nil(_) => Ok(Value::Nil),
            Expr::Bool(_, flag) => Ok(Value::Bool(*flag)),
            Expr::String(_, text) => Ok(Value::text(&**text)),
            Expr::Number(_, number) => Ok(match number {
                Number::Int(n) => Value::Int(*n),
                Number::Uint(n) => return Err(format!("{n} overflows int").into()),
                Number::Float(n) => Value::Float(*n),
            }),
            Expr::Field(_, fields) => self.fields(dot.clone(), fields, None, dot),
            Expr::Variable(_, name, fields) => {
                let value = self.variable(name)?;
                self.fields(value, fields, None, dot)
            }
            Expr::Identifier(_, name) => self.function(name, &[], dot, None),
            Expr::Pipe(_, pipe) => {
                let outer = self.variables.len();
                self.engine.budget.enter()?;
                let value = self.pipe(pipe, dot)?;
                self.engine.budget.leave();
                if pipe.decl.is_empty() {
                    self.variables.truncate(outer);
                }
                Ok(value)
            }
            Expr::Chain(_, inner, fields) => {
                let value = self.argument(inner, dot)?.settled();
                self.fields(value, fields, None, dot)
            }
        }
    }

    fn variable(&self, name: &str) -> Outcome {
        self.engine.budget.pass(self.variables.len())?;
        let found = self.variables.iter().rev().find(|(known, _)| known == name);
        Ok(found
            .ok_or_else(|| format!("undefined variable: {name}"))?
            .1
            .clone())
    }

    /// Follows a chain of fields; only the last one may be a method with arguments.
    fn fields(
        &mut self,
        start: Value,
        fields: &[SmolStr],
        given: Option<(&[Expr], Option<Value>)>,
        dot: &Value,
    ) -> Outcome {
        let (args, last) = given.unwrap_or((&[], None));
        let Some((end, middle)) = fields.split_last() else {
            return if args.is_empty() && last.is_none() {
                Ok(start)
            } else {
                Err("can't give argument to non-function".into())
            };
        };
        let budget = &self.engine.budget;
        let mut value = start;
        for name in middle {
            value = functions::methods::field(&value, name, Vec::new(), budget)?;
        }
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            values.push(self.argument(arg, dot)?);
        }
        values.extend(last);
        functions::methods::field(&value, end, values, budget)
    }

    fn locate(&self, failure: Failure, pos: Pos, pipe: &PipeNode) -> Failure {
        let command = pipe.commands.last();
        self.place(
            failure,
            pos,
            command.map(print::command).unwrap_or_default(),
            command.and_then(print::value_path),
        )
    }

    /// Names where a failure happened, or, for one that came out of another template, where that was called.
    fn place(
        &self,
        mut failure: Failure,
        pos: Pos,
        expression: String,
        value: Option<String>,
    ) -> Failure {
        let (line, column) = self.template.file.position(pos.offset);
        if failure.place.is_none() {
            failure.place = Some(Place {
                file: self.template.file.name.clone(),
                line,
                column,
            });
            failure.expression = expression;
            failure.value = value;
        } else if failure.crossing && failure.via.len() < 16 {
            failure
                .via
                .push(format!("{}:{line}", self.template.file.name));
        }
        failure.crossing = false;
        failure
    }
}

type Pairs<'v> = Box<dyn Iterator<Item = (Value, Value)> + 'v>;

/// What `range` goes over, in order. Only what may change meanwhile is copied before.
fn pairs<'v>(value: &'v Value, budget: &Budget) -> Result<Pairs<'v>, String> {
    let slot = |value: &Value| {
        if value.is_nil() {
            Value::Null
        } else {
            value.clone()
        }
    };
    let index = |index: usize| Value::Int(i64::try_from(index).unwrap_or(i64::MAX));
    Ok(match value {
        Value::Nil | Value::Null => Box::new(std::iter::empty()),
        Value::List(list) => {
            let items = list.items().iter().enumerate();
            Box::new(items.map(move |(at, item)| (index(at), slot(item))))
        }
        Value::Map(map) => {
            budget.pass(map.len())?;
            let pairs = map.pairs().into_iter();
            Box::new(pairs.map(move |(key, value)| (Value::Text(key), slot(&value))))
        }
        Value::Int(n) if *n > 1_000_000 => return Err(format!("range over {n} is too long")),
        Value::Int(n) => Box::new((0..*n).map(|n| (Value::Int(n), Value::Int(n)))),
        Value::Files(files) => {
            let files = files.0.iter();
            Box::new(
                files.map(|(name, data)| (Value::text(name.as_str()), Value::Bytes(data.clone()))),
            )
        }
        Value::Versions(versions) => {
            let versions = versions.iter().enumerate();
            Box::new(versions.map(move |(at, text)| (index(at), Value::text(text.as_str()))))
        }
        Value::Bytes(bytes) => {
            let bytes = bytes.iter().enumerate();
            Box::new(bytes.map(move |(at, byte)| (index(at), Value::Int(i64::from(*byte)))))
        }
        other => {
            let text = print::value(other, budget)?;
            return Err(format!("range can't iterate over {text}"));
        }
    })
}
