//! The database's clock in statements. How far a moment is from it is bound, not written out: the text is the same each
//! time, so that statements are prepared once.

use std::marker::PhantomData;

use diesel::{
    AppearsOnTable, Expression, QueryResult, SelectableExpression,
    backend::Backend,
    expression::{TypedExpressionType, ValidGrouping, is_aggregate},
    query_builder::{AstPass, QueryFragment, QueryId},
    serialize::ToSql,
    sql_types::{BigInt, HasSqlType, Nullable, SqlType},
};

use crate::environment::Millis;

/// Unix milliseconds, now.
const SQLITE: &str = "CAST(unixepoch('subsec') * 1000 AS BIGINT)";
/// Not clock_timestamp(): it may change within a statement, so that no index is used for what is compared with it.
const POSTGRES: &str = "CAST(extract(epoch FROM statement_timestamp()) * 1000 AS BIGINT)";

/// A moment in Unix milliseconds: [`BigInt`], or [`Nullable`] where it may be none.
#[derive(Debug, Clone)]
pub struct Moment<T> {
    /// What it is counted from. None: from nothing.
    from: Option<&'static str>,
    milliseconds: Option<Millis>,
    sql_type: PhantomData<T>,
}

impl<T> Moment<T> {
    /// So many milliseconds after now by SQLite's clock; None gives none.
    pub fn by_sqlite(milliseconds: Option<Millis>) -> Self {
        Self { from: Some(SQLITE), milliseconds, sql_type: PhantomData }
    }

    /// The same by PostgreSQL's.
    pub fn by_postgres(milliseconds: Option<Millis>) -> Self {
        Self { from: Some(POSTGRES), milliseconds, sql_type: PhantomData }
    }

    /// One that is known.
    pub fn at(milliseconds: Option<Millis>) -> Self {
        Self { from: None, milliseconds, sql_type: PhantomData }
    }
}

impl<T: SqlType + TypedExpressionType> Expression for Moment<T> {
    type SqlType = T;
}

impl<T, Table> AppearsOnTable<Table> for Moment<T> where Self: Expression {}
impl<T, Table> SelectableExpression<Table> for Moment<T> where Self: Expression {}

impl<T, Group> ValidGrouping<Group> for Moment<T> {
    type IsAggregate = is_aggregate::Never;
}

impl<T> QueryId for Moment<T> {
    type QueryId = ();
    /// Its text is each clock's own.
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<T, DB> QueryFragment<DB> for Moment<T>
where
    DB: Backend + HasSqlType<BigInt>,
    Option<Millis>: ToSql<Nullable<BigInt>, DB>,
{
    fn walk_ast<'b>(&'b self, mut pass: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let Some(from) = self.from else { return pass.push_bind_param::<Nullable<BigInt>, _>(&self.milliseconds) };
        pass.push_sql("(");
        pass.push_sql(from);
        pass.push_sql(" + ");
        pass.push_bind_param::<Nullable<BigInt>, _>(&self.milliseconds)?;
        pass.push_sql(")");
        Ok(())
    }
}
