"""Presenting results: aligned text tables, JSON, and an HTML page that needs nothing but itself."""

from laudc.report.json_output import write_json
from laudc.report.profile_html import profile_html
from laudc.report.profile_text import profile_text
from laudc.report.tables import RULE, Column, render_table

__all__ = ["RULE", "Column", "profile_html", "profile_text", "render_table", "write_json"]
