"""The first hour: what a scan needs, and the settings of a folder."""
