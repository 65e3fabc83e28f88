"""How each upstream talks. Plain Python: no Django, no database."""
