"""From result tables to claims: tables in, tables out. Draws nothing."""
