"""The telling: questions to the journal, its verification and its export. Needs neither lock nor engine."""
