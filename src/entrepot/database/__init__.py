"""database (essay follows)"""
