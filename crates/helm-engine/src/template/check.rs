//! What Go finds while parsing: unknown functions and variables, and `break` outside a loop.

use gotmpl::parse::{BranchNode, DefineNode, Expr, ListNode, Node, PipeNode, Pos, SmolStr};

use super::functions;

type Problem = (Pos, String);

/// The most variables one place may see: each use looks through them.
const VARIABLES: usize = 1_000;

/// Checks a file's body and everything it defines.
pub(super) fn names(body: &ListNode, defines: &[DefineNode]) -> Result<(), Problem> {
    for body in defines.iter().map(|define| &define.body).chain([body]) {
        Check {
            variables: vec!["$".into()],
            loops: 0,
        }
        .list(body)?;
    }
    Ok(())
}

struct Check {
    variables: Vec<SmolStr>,
    loops: usize,
}

impl Check {
    fn list(&mut self, list: &ListNode) -> Result<(), Problem> {
        for node in &list.nodes {
            match node {
                Node::List(inner) => self.list(inner)?,
                Node::Action(action) => self.pipe(&action.pipe)?,
                Node::If(branch) | Node::With(branch) => self.branch(branch, 0)?,
                Node::Range(branch) => self.branch(branch, 1)?,
                Node::Template(call) => {
                    call.pipe.as_ref().map_or(Ok(()), |pipe| self.pipe(pipe))?
                }
                Node::Break(pos) if self.loops == 0 => {
                    return Err((*pos, "{{break}} outside {{range}}".to_owned()));
                }
                Node::Continue(pos) if self.loops == 0 => {
                    return Err((*pos, "{{continue}} outside {{range}}".to_owned()));
                }
                Node::Break(_) | Node::Continue(_) | Node::Text(_) | Node::Define(_) => {}
            }
        }
        Ok(())
    }

    fn branch(&mut self, branch: &BranchNode, loops: usize) -> Result<(), Problem> {
        let outer = self.variables.len();
        self.pipe(&branch.pipe)?;
        let inner = self.variables.len();
        self.loops += loops;
        self.list(&branch.body)?;
        self.loops -= loops;
        self.variables.truncate(inner);
        if let Some(body) = &branch.else_body {
            self.list(body)?;
        }
        self.variables.truncate(outer);
        Ok(())
    }

    fn pipe(&mut self, pipe: &PipeNode) -> Result<(), Problem> {
        if pipe.is_assign {
            for name in &pipe.decl {
                self.known(pipe.pos, name)?;
            }
        } else {
            // Go knows the variable while it parses its own value.
            self.variables.extend(pipe.decl.iter().cloned());
            if self.variables.len() > VARIABLES {
                let reason = format!("more than {VARIABLES} variables are in scope");
                return Err((pipe.pos, reason));
            }
        }
        pipe.commands
            .iter()
            .flat_map(|command| &command.args)
            .try_for_each(|arg| self.expression(arg))
    }

    fn expression(&mut self, expression: &Expr) -> Result<(), Problem> {
        match expression {
            Expr::Identifier(pos, name) if !functions::exists(name) => {
                Err((*pos, format!("function {name:?} not defined")))
            }
            Expr::Variable(pos, name, _) => self.known(*pos, name),
            Expr::Pipe(_, pipe) => self.pipe(pipe),
            Expr::Chain(_, inner, _) => self.expression(inner),
            _ => Ok(()),
        }
    }

    fn known(&self, pos: Pos, name: &SmolStr) -> Result<(), Problem> {
        if self.variables.contains(name) {
            Ok(())
        } else {
            Err((pos, format!("undefined variable {name:?}")))
        }
    }
}
