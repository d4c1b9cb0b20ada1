"""site (essay follows)"""
