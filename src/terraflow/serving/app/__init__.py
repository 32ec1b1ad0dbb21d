"""The model server: a web application that needs no other part of the stack."""
