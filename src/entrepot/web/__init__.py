"""web (essay follows)"""
