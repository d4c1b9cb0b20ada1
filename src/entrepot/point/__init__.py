"""point (essay follows)"""
