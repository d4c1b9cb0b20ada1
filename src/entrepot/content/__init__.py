"""content (essay follows)"""
