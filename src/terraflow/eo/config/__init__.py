"""What a project file may say, and the records that outlive the code."""
